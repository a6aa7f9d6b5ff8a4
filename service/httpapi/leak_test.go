package httpapi

import (
	"bytes"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"macaroond/service/api"
)

// A leaked database opens nothing: no secret that was given out stands in its
// files, as text or as bytes, and none of its values is taken for a token, a
// secret, a password or a code.
func TestDatabaseLeak(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	codes := into[api.RecoveryCodes](a.post("/v1/recovery-codes", bearer(alice.Token), struct{}{}), 201).RecoveryCodes
	svc, secret := a.service("photos", "photos")
	link := into[api.LinkCode](a.post("/v1/links", bearer(alice.Token), struct{}{}), 201)
	claim := into[api.LinkPending](a.post("/v1/link", "", api.LinkIn{Username: "alice", Code: link.Code, Device: api.DeviceIn{Name: "tablet"}}), 202).Claim
	once := narrow(alice.Token, a.until(60e9), "audience photos", "once abcdefgh")
	into[api.Decision](a.post("/v1/verify", secret, api.VerifyIn{Token: once, Request: api.Request{Audience: "photos"}}), 200)
	delegated := narrow(alice.Token, "note a partner")
	into[api.RevokeOut](a.post("/v1/revoke", "", api.RevokeIn{Token: delegated}), 200)

	given := map[string]string{
		"a root": alice.Token, "a one-time token": once, "a delegated token": delegated, "a service's secret": svc.Secret,
		"a claim": claim, "a link's code": link.Code, "a password": password("alice"), "a recovery code": codes[0],
	}
	var files []byte
	for _, suffix := range []string{"", "-wal"} {
		files = append(files, must(os.ReadFile(a.path+suffix))...)
	}
	for what, text := range given {
		for form, b := range forms(text) {
			if bytes.Contains(files, b) {
				t.Errorf("%s stands in the database as %s", what, form)
			}
		}
	}
	// The signature is what makes a token one.
	for _, text := range []string{alice.Token, once, delegated} {
		b := must(base64.RawURLEncoding.DecodeString(text))
		if bytes.Contains(files, b[len(b)-32:]) {
			t.Errorf("a signature stands in the database")
		}
	}

	values := everyValue(t, a.path)
	if len(values) < 60 {
		t.Fatalf("the database has %d values", len(values))
	}
	for _, v := range values {
		if len(v) < 12 {
			continue // a word, a number, an address: shorter than any secret
		}
		for _, text := range []string{v, hex.EncodeToString([]byte(v)), base64.RawURLEncoding.EncodeToString([]byte(v)), "mds_" + base64.RawURLEncoding.EncodeToString([]byte(v))} {
			if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
				continue // no header or JSON text: its other forms are tried
			}
			tries := map[string]*reply{
				"a token":         a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(text)}),
				"a secret":        a.post("/v1/verify", basic(svc.ID, text), api.VerifyIn{Token: alice.Token, Request: api.Request{Audience: "photos"}}),
				"a recovery code": a.post("/v1/recover", "", api.RecoverIn{Username: "alice", Code: text}),
				"a claim":         a.post("/v1/link/claim", "", api.ClaimIn{Claim: text}),
			}
			for what, r := range tries {
				if r.StatusCode < 400 {
					t.Errorf("%q is taken as %s: %s", text, what, r.body)
				}
			}
		}
		// Hashing takes its time: what could be a password is tried as it is.
		if r := a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: strings.ToValidUTF8(v, "?"), Device: api.DeviceIn{Name: "x"}}); r.StatusCode < 400 {
			t.Errorf("%q is taken as a password", v)
		}
	}
	// What was given out is good all the same: the tries above could have failed for another reason.
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(alice.Token)}).want(200, "")
	a.post("/v1/recover", "", api.RecoverIn{Username: "alice", Code: codes[0]}).want(200, "")
}

// forms are those in which a secret could be kept.
func forms(text string) map[string][]byte {
	out := map[string][]byte{"itself": []byte(text), "hex": []byte(hex.EncodeToString([]byte(text)))}
	if b, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, "mds_")); err == nil && len(b) >= 8 {
		out["its bytes"] = b
	}
	if plain := strings.ReplaceAll(text, "-", ""); plain != text {
		out["itself without dashes"] = []byte(plain)
	}
	return out
}

// everyValue is each text and blob in each table.
func everyValue(t *testing.T, path string) (values []string) {
	db := must(sql.Open("sqlite", "file:"+path+"?mode=ro"))
	defer db.Close()
	var tables []string
	rows := must(db.Query(`SELECT name FROM sqlite_master WHERE type = 'table'`))
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, name)
	}
	rows.Close()
	seen := map[string]bool{}
	for _, table := range tables {
		rows := must(db.Query(fmt.Sprintf(`SELECT * FROM %q`, table)))
		columns := must(rows.Columns())
		for rows.Next() {
			row, into := make([]any, len(columns)), make([]any, len(columns))
			for i := range row {
				into[i] = &row[i]
			}
			if err := rows.Scan(into...); err != nil {
				t.Fatal(err)
			}
			for _, v := range row {
				var text string
				switch v := v.(type) {
				case string:
					text = v
				case []byte:
					text = string(v)
				}
				if text != "" && !seen[text] {
					seen[text] = true
					values = append(values, text)
				}
			}
		}
		rows.Close()
	}
	return values
}
