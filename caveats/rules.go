package caveats

import "strings"

// rule is one kind of caveat. (Lists are walked with Cut and not with an
// iterator, which would allocate.) Arguments reach it without control characters,
// not empty, and separated by single spaces; check and why see only what parse
// has accepted.
type rule struct {
	name string
	// requestless: can be judged without a request (see Caveat.NeedsRequest).
	// Forgetting it refuses.
	requestless bool
	// parse accepts the arguments as written, or says what is wrong: a flaw.
	parse func(args string) error
	// check judges. It must not allocate, and must refuse when a fact is missing.
	check func(args string, r *Request) Outcome
	// why is asked only when check refused, and never answers "".
	why func(args string, r *Request) string
}

// rules is the language. To add a caveat is to add a row.
var rules = [...]rule{
	{"time-before", true, one(instant), checkTimeBefore, whyTimeBefore},
	{"time-after", true, one(instant), checkTimeAfter, whyTimeAfter},
	{"user", true, one(word), checkUser, whyUser},
	{"device", true, one(word), checkDevice, whyDevice},
	{"audience", true, one(word), checkAudience, whyAudience},
	{"method", false, each(methodToken), checkMethod, whyMethod},
	{"path", false, each(pathPattern), checkPath, whyPath},
	{"allow", false, each(listedAction), checkAllow, whyAllow},
	{"client-ip", false, each(network), checkClientIP, whyClientIP},
	{"origin", false, each(browserOrigin), checkOrigin, whyOrigin},
	{"body-sha256", false, one(hexDigest), checkBody, whyBody},
	{"once", false, one(word), checkElsewhere, whyOnce},
	{"cnf", false, one(thumbprint), checkCnf, whyCnf},
	{"sealed", false, one(box), checkElsewhere, whySealed},
	{"via", false, one(viaCookie), checkVia, whyVia},
	{"note", true, anyText, checkNote, whyNote},
}

// one accepts a single argument.
func one(arg func(string) error) func(string) error {
	return func(args string) error {
		if strings.IndexByte(args, ' ') >= 0 {
			return flaw("wants one argument only")
		}
		return arg(args)
	}
}

// each accepts a list of one or more.
func each(arg func(string) error) func(string) error {
	return func(args string) error {
		for args != "" {
			var a string
			a, args, _ = cut(args, ' ')
			if err := arg(a); err != nil {
				return err
			}
		}
		return nil
	}
}

// listed reports whether word is one of the arguments. None is ever empty, so a
// fact that is not known is not listed.
func listed(args, word string) bool {
	for args != "" {
		var a string
		if a, args, _ = cut(args, ' '); a == word {
			return true
		}
	}
	return false
}

// heldIf is the outcome of a caveat that has no code of its own.
func heldIf(ok bool) Outcome {
	if ok {
		return Held
	}
	return Refused
}
