// Package tokensource gives narrowed tokens to whatever takes them from an
// [oauth2.TokenSource]: oauth2.NewClient, gRPC's per-RPC credentials, the
// clients of other people's APIs.
//
// It narrows as [client.Transport] does, offline, and what it hands out is good
// at one audience for a minute. What it leaves to others: which hosts get that
// token (oauth2's own transport gives it to any host that it is asked for, and
// to redirects' targets), and the clock, for it sees no answers to learn from.
// Where there is a choice, take client.Transport, which knows both.
//
// It is a package of its own so that the client needs no oauth2.
package tokensource

import (
	"context"
	"time"

	"golang.org/x/oauth2"

	"macaroond/service/client"
	"macaroond/service/token"
)

// New makes a source of tokens that are t narrowed by n, see
// [client.Narrowing.PerRequest]. now is the time at those who verify them, as
// well as this machine knows it; nil is time.Now. The errors are those of
// PerRequest and [client.Narrow]. The source is safe for concurrent use and
// makes a token at each call; [oauth2.ReuseTokenSource], which oauth2.NewClient
// puts around it, keeps one until ten seconds before its end.
func New(t *token.Token, n client.Narrowing, now func() time.Time) (oauth2.TokenSource, error) {
	n, err := n.PerRequest(t)
	if err != nil {
		return nil, err
	}
	return first(source(func() (*oauth2.Token, error) { return fresh(t, n, now) }))
}

// FromSession is New for a session's root, which is renewed on the way. ctx is
// for asking the authority, which a TokenSource's callers have none for.
func FromSession(ctx context.Context, s *client.Session, n client.Narrowing, now func() time.Time) (oauth2.TokenSource, error) {
	root, err := s.Root(ctx)
	if err != nil {
		return nil, err
	}
	if n, err = n.PerRequest(root); err != nil {
		return nil, err
	}
	return first(source(func() (*oauth2.Token, error) {
		root, err := s.Root(ctx)
		if err != nil {
			return nil, err
		}
		return fresh(root, n, now)
	}))
}

// first finds what is wrong before the first request does.
func first(s source) (oauth2.TokenSource, error) {
	if _, err := s.Token(); err != nil {
		return nil, err
	}
	return s, nil
}

// source is a closure so that nothing prints the token that it narrows.
type source func() (*oauth2.Token, error)

func (s source) Token() (*oauth2.Token, error) { return s() }

// fresh makes one token. Its Expiry is by this machine's clock, because oauth2
// compares it with that one, whatever the time is where the token is verified.
func fresh(t *token.Token, n client.Narrowing, now func() time.Time) (*oauth2.Token, error) {
	here := time.Now().Round(0) // the monotonic clock stands still while a machine sleeps
	there := here
	if now != nil {
		there = now()
	}
	narrowed, err := client.Narrow(t, n, there)
	if err != nil {
		return nil, err
	}
	out := &oauth2.Token{AccessToken: narrowed.Text(), TokenType: "Bearer"}
	if expiry, ok := client.UnverifiedExpiry(narrowed); ok {
		out.Expiry = here.Add(expiry.Sub(there))
	}
	return out, nil
}
