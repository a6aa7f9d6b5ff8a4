package caveats

import "strings"

// hexDigest accepts a SHA-256 in lower-case hexadecimal.
func hexDigest(s string) error {
	const digits = 64
	if len(s) != digits || strings.Trim(s, "0123456789abcdef") != "" {
		return flaw("wants 64 lower-case hexadecimal digits")
	}
	return nil
}

// checkBody compares two digests that both sides of the connection know:
// neither is a secret, so there is nothing to learn from how long it takes.
func checkBody(args string, r *Request) Outcome {
	return heldIf(r.BodySHA256 == args)
}

func whyBody(args string, r *Request) string {
	if r.BodySHA256 == "" {
		return missing("body")
	}
	return "the body's SHA-256 is " + fact(r.BodySHA256) + ", not " + args
}
