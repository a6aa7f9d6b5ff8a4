package guard

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/maypok86/otter/v2"

	"macaroond/service/token"
	"macaroond/service/verify"
)

// prefix is where the chains of some tokens can be walked from: all those that
// begin with the same bytes.
type prefix struct {
	history  *history // under which it was learned
	begin    []byte   // identifier and covered caveats, as encoded
	anchor   token.Anchor
	covered  *verify.Covered
	whole    bool // no prefix but a token, of which no other begins so
	username string
	role     string

	generation string    // of the feed that sequence is of; empty: the answer has none
	sequence   int64     // what the answer knew, policies among it
	policies   []string  // ANDed to each token's own caveats
	until      time.Time // the authority is asked anew then, for the first of them ends; zero: none ends
	address    bool      // one of them is about the client's address
}

// Append implements [verify.Policies].
func (p *prefix) Append(room []string, _ token.Identity, _ time.Time) []string {
	return append(room, p.policies...)
}

// counts reports whether what was learned is still so: under this history, and
// with these policies.
func (p *prefix) counts(h *history, now time.Time) bool {
	return p.history == h && h.has(p.generation) && (p.until.IsZero() || now.Before(p.until)) && !h.policies.outdate(p)
}

// Format keeps the signature out of logs.
func (*prefix) Format(f fmt.State, _ rune) { io.WriteString(f, "prefix") }

// covers reports whether a token begins so, byte by byte: only then has its
// chain this signature at this point.
func (p *prefix) covers(t *token.Token) bool {
	n := p.anchor.Caveats
	return n <= t.UnverifiedLen() && bytes.Equal(t.UnverifiedBegin(n), p.begin)
}

// holds reports whether a token that it covers is signed.
func (p *prefix) holds(t *token.Token) bool {
	var chain token.Chain
	return chain.Walk(t, &p.anchor)
}

// left is how long it is of use: to the end of the window, say.
func (p *prefix) left(now time.Time) time.Duration {
	return min(max(p.covered.Expires().Sub(now), time.Second), keepKnown)
}

type cache[K comparable, V any] = otter.Cache[K, V]

func newCache[K comparable, V any](size int, keep func(V) time.Duration) (*cache[K, V], error) {
	return otter.New(&otter.Options[K, V]{
		MaximumSize:      size,
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[K, V]) time.Duration { return keep(e.Value) }),
	})
}

// memory is what was learned from the authority's answers. It is bounded, in
// memory only, and holds secrets: nothing of it is ever printed.
type memory struct {
	now      func() time.Time
	prefixes *cache[token.RootKeyID, []*prefix] // a list never changes in place
	whole    *cache[[32]byte, *prefix]          // tokens for which there is no prefix, by digest
	refused  *cache[[32]byte, struct{}]         // tokens that were not active a moment ago
}

const (
	keepKnown   = 2 * time.Hour // at the latest it is asked for again after that
	keepRefused = 10 * time.Second
	maxWhole    = 10_000
	maxRefused  = 10_000
)

func (m *memory) init(size int, now func() time.Time) (err error) {
	m.now = now
	if m.prefixes, err = newCache[token.RootKeyID](size, func(list []*prefix) (left time.Duration) {
		for _, p := range list {
			left = max(left, p.left(now()))
		}
		return left
	}); err != nil {
		return err
	}
	if m.whole, err = newCache[[32]byte](maxWhole, func(p *prefix) time.Duration { return p.left(now()) }); err != nil {
		return err
	}
	m.refused, err = newCache[[32]byte](maxRefused, func(struct{}) time.Duration { return keepRefused })
	return err
}

func (m *memory) forget() {
	m.prefixes.InvalidateAll()
	m.whole.InvalidateAll()
	m.refused.InvalidateAll()
}

// close ends what the caches do by themselves. They can still be used.
func (m *memory) close() {
	m.prefixes.StopAllGoroutines()
	m.whole.StopAllGoroutines()
	m.refused.StopAllGoroutines()
}

// find gives what covers the token, if anything does.
func (m *memory) find(t *token.Token, h *history, now time.Time) *prefix {
	if list, ok := m.prefixes.GetIfPresent(t.UnverifiedIdentifier().RootKeyID); ok {
		for _, p := range list {
			if p.covers(t) && p.counts(h, now) {
				return p
			}
		}
	}
	if p, ok := m.whole.GetIfPresent(t.UnverifiedDigest()); ok && p.counts(h, now) {
		return p
	}
	return nil
}

// keep adds a prefix of a root key ID; those whose time is up go. Of more than
// mostPrefixes that whose time is up first goes: under one root key somebody who
// may have tokens could otherwise make prefixes without end.
func (m *memory) keep(id token.RootKeyID, p *prefix) {
	now := m.now()
	m.prefixes.Compute(id, func(old []*prefix, _ bool) ([]*prefix, otter.ComputeOp) {
		next := []*prefix{p}
		for _, q := range old {
			if q.covered.Expires().After(now) && q.history == p.history && !p.history.policies.outdate(q) && !bytes.Equal(q.begin, p.begin) {
				next = append(next, q)
			}
		}
		if len(next) > mostPrefixes {
			first := 1 // never the one that is being added
			for i := range next {
				if i > 0 && !next[i].covered.Expires().After(next[first].covered.Expires()) {
					first = i // of equals the one that has been there longest
				}
			}
			next = slices.Delete(next, first, first+1)
		}
		return next, otter.WriteOp
	})
}
