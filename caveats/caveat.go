package caveats

import (
	"iter"
	"strings"
)

// Caveat is one restriction, parsed: a small immutable value that can be
// compared with == and used by several goroutines at once. Two are equal when
// their texts are and the same [Language] read them. The zero Caveat prints as
// nothing and is always refused.
type Caveat struct {
	rule *rule
	text string
}

// String returns the text that c was parsed from, byte for byte.
func (c Caveat) String() string { return c.text }

// Name returns the name, such as "method"; "" for the zero Caveat.
func (c Caveat) Name() string {
	name, _, _ := strings.Cut(c.text, " ")
	return name
}

// Argument returns everything after the name, as written: for a note, its text.
func (c Caveat) Argument() string {
	_, args, _ := strings.Cut(c.text, " ")
	return args
}

// Args yields the arguments, split at the spaces, as written: a note's words,
// a path's patterns with their escapes. The zero Caveat has none.
func (c Caveat) Args() iter.Seq[string] {
	if c.text == "" {
		return func(func(string) bool) {}
	}
	return strings.SplitSeq(c.Argument(), " ")
}

// NeedsRequest reports whether c says anything about a request. Only
// time-before, time-after, user, device, audience and note do not: those can be
// judged by an introspection, which knows who asks and what time it is but has
// no request.
func (c Caveat) NeedsRequest() bool {
	return c.rule == nil || !c.rule.requestless
}

// Check judges c by the facts in r. A nil r states no facts.
func (c Caveat) Check(r *Request) Outcome {
	if c.rule == nil {
		return Unknown
	}
	if r == nil {
		r = new(Request)
	}
	return c.rule.check(c.Argument(), r)
}

// Explain says in one plain sentence why c does not hold for r, and "" when it
// does. It is for developers: it repeats what the caveat and the request say
// (never a query string, at most 100 bytes of each fact, nothing unprintable).
func (c Caveat) Explain(r *Request) string {
	if c.rule == nil {
		return ErrUnknown.Error()
	}
	if r == nil {
		r = new(Request)
	}
	args := c.Argument()
	if c.rule.check(args, r) == Held {
		return ""
	}
	return c.rule.why(args, r)
}
