package httpapi

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"macaroond/service/api"
)

// policy is the status of every code, written by hand from the specification.
var policy = map[string]int{
	"malformed": 401, "too_large": 401, "invalid": 401, "revoked": 401, "expired": 401, "not_yet_valid": 401, "wrong_audience": 401,
	"unknown_caveat": 403, "refused": 403, "replayed": 403,
	"stale":       503,
	"bad_request": 400, "bad_credentials": 401, "no_token": 401,
	"forbidden": 403, "suspended": 403, "signup_off": 403, "bare_root_required": 403, "csrf": 403, "session_over": 403,
	"not_found": 404, "method_not_allowed": 405, "name_taken": 409, "branch_limit": 409, "other_generation": 410,
	"too_many":       409,
	"proof_required": 403, "proof_refused": 403, "last_admin": 409,
	"body_too_large": 413, "unsupported_media": 415, "rate_limited": 429,
	"internal": 500, "busy": 503, "unavailable": 503,
}

const (
	noToken      = `Bearer realm="macaroond"`
	invalidToken = `Bearer error="invalid_token"`
	otherScope   = `Bearer error="insufficient_scope"`
)

// challenges is what WWW-Authenticate is with each code; left out is none.
var challenges = map[string]string{
	"no_token": noToken, "bad_credentials": noToken,
	"malformed": invalidToken, "too_large": invalidToken, "invalid": invalidToken, "revoked": invalidToken,
	"expired": invalidToken, "not_yet_valid": invalidToken, "wrong_audience": invalidToken,
	"unknown_caveat": otherScope, "refused": otherScope, "replayed": otherScope, "bare_root_required": otherScope,
}

// Every code has its row in the one table, and every row a code.
func TestEveryCodeHasAStatus(t *testing.T) {
	codes := codesOf(t)
	for code := range codes {
		if code != api.CodeOK && (api.StatusOf(code) != policy[code] || policy[code] == 0) {
			t.Errorf("%s is %d, want %d", code, api.StatusOf(code), policy[code])
		}
	}
	for code := range policy {
		if codes[code] == "" || code == api.CodeOK {
			t.Errorf("%q has a status and is no code of a problem", code)
		}
	}
	for _, none := range []string{"", api.CodeOK, "no such code"} {
		if status := api.StatusOf(none); status != 500 {
			t.Errorf("%q is %d: what has no row must not pass for an answer", none, status)
		}
	}
}

// TestMain holds the whole run against the document: every operation was seen
// to succeed.
func TestMain(m *testing.M) {
	status := m.Run()
	whole := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == "" && flag.Lookup("test.list").Value.String() == ""
	if whole && status == 0 {
		for _, item := range document().doc.Paths.Map() {
			for _, op := range item.Operations() {
				if _, seen := succeeded.Load(op.OperationID); !seen {
					fmt.Fprintf(os.Stderr, "no test has had %s succeed\n", op.OperationID)
					status = 1
				}
			}
		}
	}
	os.Exit(status)
}
