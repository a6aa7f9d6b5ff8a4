package httpapi

import (
	"reflect"
	"testing"

	"github.com/go-json-experiment/json"

	"macaroond/service/api"
)

// FuzzVerifyIn: what is read by hand is what the library reads, and the library
// takes it.
func FuzzVerifyIn(f *testing.F) {
	usual := []string{
		`{"token":"AgI","request":{"method":"GET","path":"/photos/1","audience":"photos"}}`,
		" {\n\t\"request\" : { \"url\" : \"https://a.example/b\" , \"via\":\"cookie\" } ,\r\"token\":\"x\" } \n",
		`{"token":"x","request":{"client_ip":"::1","origin":"https://a","body_sha256":"00","dpop":"d"}}`,
		`{}`, `{"token":"x"}`, `{"request":{}}`,
	}
	for _, s := range usual {
		if in := new(api.VerifyIn); !readVerifyIn([]byte(s), in) {
			f.Errorf("%s is not usual", s)
		}
		f.Add([]byte(s))
	}
	for _, s := range []string{
		``, `{`, `}`, `[]`, `null`, `{"token":null}`, `{"token":"a","token":"b"}`, `{"token":"","token":"b"}`, `{"token":"a"}x`, `{"token":"a",}`,
		`{"token":"\u0061"}`, `{"token":"é"}`, `{"Token":"a"}`, `{"token":"a" "request":{}}`, `{"request":{"actions":["a"]}}`,
		`{"request":{},"request":{}}`, `{"request":{"extra":{}}}`, `{"token":1}`, `{"token":"a"`, `{"token":"a}`, `{"token":"\""}`, `{"request":"x"}`, `{,}`,
	} {
		if in := new(api.VerifyIn); readVerifyIn([]byte(s), in) {
			f.Errorf("%s is usual", s)
		}
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var ours, theirs api.VerifyIn
		if !readVerifyIn(body, &ours) {
			if !reflect.DeepEqual(ours, api.VerifyIn{}) {
				t.Fatalf("%q leaves %+v behind", body, ours)
			}
			return
		}
		if err := json.Unmarshal(body, &theirs, json.RejectUnknownMembers(true)); err != nil {
			t.Fatalf("%q is taken by us alone: %v", body, err)
		}
		if !reflect.DeepEqual(ours, theirs) {
			t.Fatalf("%q: %+v, the library: %+v", body, ours, theirs)
		}
	})
}
