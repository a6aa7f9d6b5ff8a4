package caveats

import "strings"

// listedAction accepts an action as allow lists it: a name, or a namespace and
// ":*". A star anywhere else would look like a pattern and be none.
func listedAction(s string) error {
	if err := word(s); err != nil {
		return err
	}
	namespace := strings.TrimSuffix(s, ":*")
	if strings.IndexByte(namespace, '*') >= 0 {
		return flaw("wants '*' only as the whole part after the last ':', as in photos:*")
	}
	if namespace == "" {
		return flaw("wants a namespace before ':*'")
	}
	return nil
}

// isAction reports whether a request may name s: a star there could be taken
// for the namespace that a token lists.
func isAction(s string) bool {
	return word(s) == nil && strings.IndexByte(s, '*') < 0
}

// checkAllow: a request that names no action is refused, for otherwise a
// verifier that forgot to name one would open what the token closes.
func checkAllow(args string, r *Request) Outcome {
	if len(r.Actions) == 0 {
		return Refused
	}
	for _, action := range r.Actions {
		if !isAction(action) || !allowed(args, action) {
			return Refused
		}
	}
	return Held
}

// allowed reports whether an action is listed. A namespace holds all that
// begins with it and goes on: photos:* has photos:read and photos:albums:read,
// and neither photos nor photos2:read.
func allowed(args, action string) bool {
	for args != "" {
		var entry string
		if entry, args, _ = cut(args, ' '); entry == action {
			return true
		}
		prefix, whole := strings.CutSuffix(entry, "*")
		if whole && len(action) > len(prefix) && strings.HasPrefix(action, prefix) {
			return true
		}
	}
	return false
}

func whyAllow(args string, r *Request) string {
	if len(r.Actions) == 0 {
		return "the request names no action"
	}
	for _, action := range r.Actions {
		if !isAction(action) {
			return "the request names " + fact(action) + ", which is no action"
		}
		if !allowed(args, action) {
			return "action " + fact(action) + " is not one of " + args
		}
	}
	return "the action is not one of " + args
}
