package token

import (
	"bytes"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The version 2 JSON form (libmacaroons doc/format.txt). js-macaroon cannot
// export more than three caveats as binary, so this form is read too. Keys are
// exact, unknown and duplicate ones are refused, and so is invalid UTF-8: that
// is what this JSON library does and the standard one does not.
type jsonToken struct {
	V   *int         `json:"v"`
	L   string       `json:"l"`
	I   *string      `json:"i"`
	I64 *string      `json:"i64"`
	C   []jsonCaveat `json:"c"`
	S   *string      `json:"s"` // js-macaroon's spelling of one that is UTF-8 by chance
	S64 *string      `json:"s64"`
}

type jsonCaveat struct {
	I   *string `json:"i"`
	I64 *string `json:"i64"`
	V   *string `json:"v"`
	V64 *string `json:"v64"`
	L   string  `json:"l"`
}

// hasNull reports a null, which would be one more spelling of an absent member.
func hasNull(data []byte) bool {
	in := jsontext.NewDecoder(bytes.NewBuffer(data))
	for {
		t, err := in.ReadToken()
		if err != nil || t.Kind() == 'n' {
			return err == nil // an error is the end, for data has been decoded
		}
	}
}

// binaryOfJSON says the same in the binary form, which is then read like any
// other: limits and grammar are told once.
func binaryOfJSON(data []byte) ([]byte, error) {
	var in jsonToken
	if err := json.Unmarshal(data, &in, json.RejectUnknownMembers(true)); err != nil || hasNull(data) {
		return nil, malformed("the JSON form has a wrong, unknown or duplicate member")
	}
	if in.V != nil && *in.V != 2 {
		return nil, malformed("the JSON form is not of version 2")
	}
	b := append(make([]byte, 0, len(data)), 2)
	if in.L != "" {
		b = appendField(b, fieldLocation, in.L)
	}
	identifier, err := jsonField(in.I, in.I64)
	if err != nil {
		return nil, err
	}
	b = append(appendField(b, fieldIdentifier, identifier), fieldEnd)
	for _, c := range in.C {
		if c.L != "" {
			b = appendField(b, fieldLocation, c.L)
		}
		id, err := jsonField(c.I, c.I64)
		if err != nil {
			return nil, err
		}
		b = appendField(b, fieldIdentifier, id)
		if c.V != nil || c.V64 != nil {
			vid, err := jsonField(c.V, c.V64)
			if err != nil {
				return nil, err
			}
			b = appendField(b, fieldVID, vid)
		}
		b = append(b, fieldEnd)
	}
	sig, err := jsonField(in.S, in.S64)
	if err != nil {
		return nil, err
	}
	return appendField(append(b, fieldEnd), fieldSignature, sig), nil
}

// jsonField takes a value that is there as text or in base64url, not both.
func jsonField(text, encoded *string) (string, error) {
	switch {
	case (text == nil) == (encoded == nil):
		return "", malformed("a member of the JSON form is missing, or there in two spellings")
	case text != nil:
		return *text, nil
	}
	b, err := appendBase64(nil, *encoded)
	return string(b), err
}
