package guard_test

import (
	"testing"

	"macaroond/service/api"
	"macaroond/service/client"
)

// One device's tokens cost one question in a window, whatever they go on with.
func TestPrefix(t *testing.T) {
	a := start(t)
	alice := a.device("alice")
	g := a.guard(nil)
	begin := narrow(t, alice.Token, window(), "audience photos")
	for i, text := range []string{begin, narrow(t, begin, soon()), narrow(t, begin, soon(), "path /photos/*"), narrow(t, begin, "method GET", "note x")} {
		if got := code(g, text); got != api.CodeOK {
			t.Errorf("token %d: %s", i, got)
		}
	}
	if n := a.introspections(); n != 1 {
		t.Errorf("%d questions, want 1", n)
	}
	if got := code(g, narrow(t, begin, "path /albums/*")); got != api.CodeRefused {
		t.Errorf("another path: %s", got)
	}
	if got := code(g, narrow(t, alice.Token, window(), "audience mail")); got != api.CodeWrongAudience {
		t.Errorf("another audience: %s", got)
	}
	if got := code(g, alice.Token); got != api.CodeWrongAudience {
		t.Errorf("a bare root: %s", got)
	}
	if n := a.introspections(); n != 1 {
		t.Errorf("%d questions, want 1", n)
	}
	// The device is dropped: everything dies, without a question.
	ok(t, a.c.Logout(t.Context(), client.Bearer(alice.Token)))
	eventually(t, "revoked", func() bool { return code(g, narrow(t, begin, soon())) == api.CodeRevoked })
	if n := a.introspections(); n != 1 {
		t.Errorf("%d questions, want 1", n)
	}
}
