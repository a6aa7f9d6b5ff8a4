package guard

import (
	"context"
	"errors"
	"net/http"

	"macaroond/service/api"
)

// CredentialError is what the authority has against the credential, and what to
// do about it.
type CredentialError struct{ Reason string }

func (e *CredentialError) Error() string { return "the credential cannot be used: " + e.Reason }

// Confirm asks the authority whether the credential serves the audience, by
// having a text judged that is no token. Any service may follow the feed, and to
// one that does not serve the audience every token is inactive: telling their
// holders so would log all of them out for a mistake in a configuration. The
// error is a [*CredentialError] when the answer is no; any other means that
// there was no answer.
func (g *Guard) Confirm(ctx context.Context) error {
	_, err := g.client.Verify(ctx, g.o.Credential, api.VerifyIn{Token: "-", Request: api.Request{Audience: g.o.Audience}})
	if err == nil {
		g.serves.Store(true)
		return nil
	}
	remedy := "with macaroond service add NAME --serves " + g.o.Audience + " --json, and start again with it"
	if p, ok := errors.AsType[*api.Problem](err); ok {
		switch p.Status {
		case http.StatusUnauthorized:
			return &CredentialError{"the authority does not know it, or not any more: make another " + remedy}
		case http.StatusForbidden:
			return &CredentialError{"it does not serve the audience " + g.o.Audience + ": make one that does " + remedy}
		}
	}
	return err
}
