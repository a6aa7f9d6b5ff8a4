package caveats

// Cookie is the one [Request].Via that a caveat can ask for. (A caveat for the
// header would bind nobody: what a page cannot read, it cannot send in one.)
const Cookie = "cookie"

func viaCookie(s string) error {
	if s != Cookie {
		return flaw("wants cookie")
	}
	return nil
}

// checkVia: a verifier that does not say how the token came has not taken it
// from a cookie.
func checkVia(_ string, r *Request) Outcome { return heldIf(r.Via == Cookie) }

func whyVia(_ string, r *Request) string {
	if r.Via == "" {
		return "the token is good in the cookie only, and did not come in it"
	}
	return "the token is good in the cookie only, and came by " + fact(r.Via)
}
