package caveats

import "strings"

// methodToken accepts a method: a token (RFC 9110, sections 5.6.2 and 9.1).
// Methods are case-sensitive and all registered ones are upper case, so a
// lower-case letter is a mistake and not a method of that name.
func methodToken(s string) error {
	const punctuation = "!#$%&'*+-.^_`|~"
	for i := range len(s) {
		c := s[i]
		if !('A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(punctuation, c) >= 0) {
			return flaw("wants methods in upper case, such as GET")
		}
	}
	return nil
}

func checkMethod(args string, r *Request) Outcome {
	return heldIf(listed(args, r.Method))
}

func whyMethod(args string, r *Request) string {
	if r.Method == "" {
		return missing("method")
	}
	return "method " + fact(r.Method) + " is not one of " + args
}
