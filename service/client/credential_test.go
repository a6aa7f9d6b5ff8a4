package client

import (
	"strings"
	"testing"

	"macaroond/service/token"
)

func TestParseCredential(t *testing.T) {
	id := token.NewID(token.ServicePrefix)
	good := Basic(id, "s3cret")
	for in, ok := range map[string]bool{
		id + ":s3cret\n": true,
		`{"id":"` + id + `","secret":"s3cret","serves":["a"],"calls":[],"actions":[],"rights":[]}` + "\n": true,
		`{"id":"` + id + `"}`:               false,
		`{"id":"` + id + `","secret":7}`:    false,
		id + ":s3cret # photos":             false,
		id + ":s3cret\nsecond line":         false,
		id:                                  false,
		id + ":":                            false,
		"usr_AAAAAAAAAAAAAAAA:s3cret":       false,
		"svc_AAAAAAAAAAAAAAAA\n:s3cret":     false,
		"":                                  false,
		`{"id":"svc_A","secret":"s3cret"}`:  false,
		"correct horse battery staple 1:23": false,
	} {
		got, err := ParseCredential(in)
		if ok && (err != nil || got != good) || !ok && (err == nil || got != (Credential{})) {
			t.Errorf("%q: %v", in, err)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: the error has the secret: %v", in, err)
		}
	}
}
