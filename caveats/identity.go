package caveats

// word accepts an identity or an audience.
func word(s string) error {
	if s == "" || len(s) > maxWord || !printable(s) {
		return flaw("wants 1 to 128 printable ASCII characters")
	}
	return nil
}

// A caveat "user X" is only ever a condition on the identity that the authority
// wrote (the mint caveats) and the verifier put into the Request. It is never
// where an identity is read from: anybody can append one. (No argument is ever
// empty, so a fact that is not known equals none.)

func checkUser(args string, r *Request) Outcome   { return heldIf(r.User == args) }
func checkDevice(args string, r *Request) Outcome { return heldIf(r.Device == args) }

// checkAudience has an answer of its own: the token may be a good one elsewhere.
// A verifier that names no audience is nobody's.
func checkAudience(args string, r *Request) Outcome {
	if r.Audience == args {
		return Held
	}
	return WrongAudience
}

func whyUser(args string, r *Request) string     { return whyNotEqual("user", r.User, args) }
func whyDevice(args string, r *Request) string   { return whyNotEqual("device", r.Device, args) }
func whyAudience(args string, r *Request) string { return whyNotEqual("audience", r.Audience, args) }

func whyNotEqual(what, have, want string) string {
	if have == "" {
		return missing(what)
	}
	return what + " " + fact(have) + " is not " + want
}
