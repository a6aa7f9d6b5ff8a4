package caveats

import (
	"fmt"
	"strconv"
	"strings"
)

// Language is a set of caveats that can be understood: the built-in ones and
// the extensions it was made with. The zero Language has the built-in ones only.
// A Language does not change and may be used by several goroutines at once.
type Language struct {
	own []rule
}

// Extension is a caveat of a resource server's own. Everybody else refuses it
// as unknown.
type Extension struct {
	// Name begins with "x-": x-[a-z0-9-]+.
	Name string
	// Check returns nil when the restriction is met, and otherwise an error
	// that says why in words fit for a developer. args is everything after the
	// name: one or more arguments, separated by single spaces, without control
	// characters; their grammar is Check's own business.
	//
	// It must be a function of its arguments alone, may be called more than once
	// a request and from several goroutines, and must refuse when a fact that it
	// needs is not there. r is a copy of the verifier's Request, so that an
	// extension cannot change the facts under another caveat; what its slices
	// and map hold is shared and must be left alone.
	Check func(args string, r *Request) error
}

// NewLanguage returns the built-in caveats together with ext. It is an error
// when a name does not begin with "x-" or is not written as a name, when two
// extensions share one, or when a Check is nil.
func NewLanguage(ext ...Extension) (Language, error) {
	l := Language{own: make([]rule, 0, len(ext))}
	for _, e := range ext {
		own, ok := strings.CutPrefix(e.Name, "x-")
		switch {
		case !ok || own == "" || strings.Trim(own, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
			return Language{}, fmt.Errorf("extension %q: want a name such as x-tenant", e.Name)
		case len(e.Name)+len(" a") > MaxLen:
			return Language{}, fmt.Errorf("extension %.40q…: name too long", e.Name)
		case e.Check == nil:
			return Language{}, fmt.Errorf("extension %s has no Check", e.Name)
		case l.find(e.Name) != nil:
			return Language{}, fmt.Errorf("extension %s is there twice", e.Name)
		}
		l.own = append(l.own, e.rule())
	}
	return l, nil
}

// rule is the row that the table of built-in caveats would have for e.
func (e Extension) rule() rule {
	judge := func(args string, r *Request) error {
		facts := *r // so that an extension cannot widen: see Extension.Check
		return e.Check(args, &facts)
	}
	return rule{
		name:  e.Name,
		parse: func(string) error { return nil },
		check: func(args string, r *Request) Outcome {
			if judge(args, r) != nil {
				return Refused
			}
			return Held
		},
		why: func(args string, r *Request) string {
			const generic = " does not hold"
			err := judge(args, r)
			if err == nil || err.Error() == "" {
				return e.Name + generic
			}
			return e.Name + ": " + sentence(err.Error())
		},
	}
}

// sentence makes an extension's words fit for a log line. They may repeat the
// request's, so what is hidden becomes '?'.
func sentence(s string) string {
	const limit = 2 * factLimit
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return strings.Map(func(r rune) rune {
		if Hidden(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// find returns the row for a name, or nil.
func (l Language) find(name string) *rule {
	for i := range rules {
		if rules[i].name == name {
			return &rules[i]
		}
	}
	for i := range l.own {
		if l.own[i].name == name {
			return &l.own[i]
		}
	}
	return nil
}

// read splits a text into its row and its arguments. The error is ErrUnknown
// or a flaw. It does not allocate.
func (l Language) read(text string) (row *rule, args string, err error) {
	if text == "" {
		return nil, "", flaw("empty caveat")
	}
	if len(text) > MaxLen {
		return nil, "", flaw("caveat longer than 512 bytes")
	}
	if err := plain(text); err != nil {
		return nil, "", err
	}
	end := strings.IndexByte(text, ' ')
	if end < 0 {
		end = len(text)
	}
	row = l.find(text[:end])
	if row == nil {
		return nil, "", ErrUnknown
	}
	if end == len(text) {
		return row, "", flaw("wants an argument")
	}
	return row, text[end+1:], row.parse(text[end+1:])
}

// Parse reads one caveat. [Caveat.String] gives the same text back. The error
// matches [ErrUnknown] or [ErrSyntax], says what would be right and is safe to
// print: it repeats at most 100 bytes of the text, escaped.
func (l Language) Parse(text string) (Caveat, error) {
	row, _, err := l.read(text)
	switch {
	case err == nil:
		return Caveat{rule: row, text: text}, nil
	case row != nil:
		return Caveat{}, fmt.Errorf("caveat %s: %w", row.name, err)
	case err == ErrUnknown:
		name, _, _ := strings.Cut(text, " ")
		return Caveat{}, fmt.Errorf("%w %s", ErrUnknown, strconv.QuoteToASCII(name[:min(len(name), factLimit)]))
	default:
		return Caveat{}, err
	}
}

// Check parses and judges in one step: what is no caveat is [Unknown]. For a
// built-in caveat it does not allocate, be it held, refused or unknown (only a
// malformed network does). A nil r states no facts.
func (l Language) Check(text string, r *Request) Outcome {
	row, args, err := l.read(text)
	if err != nil {
		return Unknown
	}
	if r == nil {
		r = new(Request)
	}
	return row.check(args, r)
}

// Explain is [Caveat.Explain] for a text; when it is no caveat it says why not.
func (l Language) Explain(text string, r *Request) string {
	c, err := l.Parse(text)
	if err != nil {
		return err.Error()
	}
	return c.Explain(r)
}

// Parse reads one built-in caveat; see [Language.Parse].
func Parse(text string) (Caveat, error) { return Language{}.Parse(text) }

// Check parses and judges one built-in caveat; see [Language.Check].
func Check(text string, r *Request) Outcome { return Language{}.Check(text, r) }

// Explain says why a built-in caveat does not hold; see [Language.Explain].
func Explain(text string, r *Request) string { return Language{}.Explain(text, r) }
