package token_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"macaroond/service/token"
)

// Secrets do not print, whatever the verb, and neither does what holds them.
func TestSecretsDoNotPrint(t *testing.T) {
	tok := mustMint(t, "audience photos")
	chain := mustVerify(t, tok)
	sig := *chain.Signature(4)
	prk := token.NewPRK(rootKey)
	secrets := map[string][]byte{"root key": rootKey[:], "signature": sig[:], "first signature": chain.Signature(0)[:]}
	rows := map[string]any{
		"RootKey": rootKey, "*RootKey": &rootKey, "[]RootKey": []token.RootKey{rootKey},
		"Signature": sig, "*Signature": &sig, "[]Signature": []token.Signature{sig}, "map": map[string]token.Signature{"x": sig},
		"PRK": prk, "*PRK": &prk, "[]PRK": []token.PRK{prk}, "*Token": tok, "Token": *tok, "[]*Token": []*token.Token{tok},
		"Chain": chain, "*Chain": &chain,
		"struct": struct {
			Key   token.RootKey
			Sig   *token.Signature
			Tok   *token.Token
			Chain token.Chain
		}{rootKey, &sig, tok, chain},
	}
	for name, v := range rows {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%#x", "%d", "%o", "%b", "%c", "%U", "%t", "%e", "%10.3v", "%y"} {
			clean(t, name+" under "+verb, fmt.Sprintf(verb, v), secrets)
		}
		clean(t, name+" printed", fmt.Sprint(v)+fmt.Sprintln(v), secrets)
		js, _ := json.Marshal(v)
		clean(t, name+" as JSON", string(js), secrets)
		var log bytes.Buffer
		for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
			slog.New(h).Info("m", "k", v, slog.Group("g", "k", v), slog.Any("any", []any{v}))
		}
		clean(t, name+" in a log", log.String(), secrets)
	}
	for _, v := range []any{rootKey, sig, prk, tok, chain} {
		if got := fmt.Sprintf("%v %x %d %#v", v, v, v, v); got != "[redacted] [redacted] [redacted] [redacted]" {
			t.Errorf("%T: %s", v, got)
		}
		if s, ok := v.(fmt.Stringer); !ok || s.String() != "[redacted]" {
			t.Errorf("%T is no Stringer, or prints", v)
		}
	}
}

// clean fails when out has a secret in any of the ways that a program writes bytes.
func clean(t *testing.T, what, out string, secrets map[string][]byte) {
	t.Helper()
	for name, secret := range secrets {
		part := secret[:8]
		list := strings.Trim(fmt.Sprint(part), "[]")
		for _, form := range []string{
			string(part), hex.EncodeToString(part), strings.ToUpper(hex.EncodeToString(part)), fmt.Sprintf("% x", part),
			list, strings.ReplaceAll(list, " ", ","), strings.Trim(strings.TrimPrefix(fmt.Sprintf("%#v", part), "[]byte"), "{}"),
			strings.Trim(fmt.Sprintf("%b", part), "[]"), strings.Trim(fmt.Sprintf("%o", part), "[]"),
			strings.Trim(fmt.Sprintf("%c", part), "[]"), strings.Trim(fmt.Sprintf("%U", part), "[]"), strings.Trim(fmt.Sprintf("%q", part), "[]\""),
			base64.RawURLEncoding.EncodeToString(secret)[:10], base64.StdEncoding.EncodeToString(secret)[:10],
		} {
			if strings.Contains(out, form) {
				t.Errorf("%s: the %s shows: %s", what, name, out)
				return
			}
		}
	}
}
