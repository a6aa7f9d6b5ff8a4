package token_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"macaroond/caveats"
	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/keyring"
	"macaroond/service/token"
	"macaroond/storage"
	"macaroond/storage/sqlite"
)

// overlap is an authority whose release mints m1 and was installed where tokens
// of an earlier format are out.
type overlap struct {
	t    *testing.T
	svc  *service.Service
	ring *keyring.Keyring
	mu   sync.Mutex
	now  time.Time
	set  service.Settings
}

func newOverlap(t *testing.T) *overlap {
	t.Helper()
	o := &overlap{t: t, now: time.Now().UTC().Truncate(time.Second), set: service.Settings{
		Issuer: "https://auth.example", Audience: "macaroond", GatewayAudience: "photos",
		RootTTL: time.Hour, MaxStaleness: time.Hour, MaxDevices: 10,
	}}
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "db"), sqlite.Options{})
	ok(t, err)
	t.Cleanup(func() { store.Close() })
	keys, err := keyring.ParseSealingKeys(keyring.NewKeyText())
	ok(t, err)
	o.svc, err = service.New(t.Context(), service.Config{
		Store: store, Keys: keys, Now: o.clock, Log: slog.New(slog.DiscardHandler), Settings: o.set,
		Hashing: service.Hashing{MemoryKiB: 8, Time: 1, Threads: 1, Pool: 1, Queue: 1},
	})
	ok(t, err)
	epochs, err := store.Epochs(t.Context())
	ok(t, err)
	o.ring = keyring.New(keys)
	ok(t, o.ring.Load(epochs))
	return o
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (o *overlap) clock() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.now
}

func (o *overlap) mint(f token.Format, with ...caveats.Caveat) string {
	o.t.Helper()
	id := token.Identifier{Format: f, Epoch: 1, RootKeyID: token.NewRootKeyID()}
	key, known := o.ring.RootKey(id)
	if !known {
		o.t.Fatal("the epoch is not there")
	}
	tok, err := token.Mint(&key, "https://auth.example", id, token.Identity{
		User: token.NewID(token.UserPrefix), Device: token.NewID(token.DevicePrefix), Expires: o.clock().Add(time.Hour),
	}, with...)
	ok(o.t, err)
	return tok.Text()
}

func (o *overlap) ask(text string) string {
	_, err := o.svc.Gateway(context.Background(), text, caveats.Request{Audience: "photos"}, nil)
	if err == nil {
		return api.CodeOK
	}
	refusal, _ := errors.AsType[*api.Refusal](err)
	return refusal.Code
}

// seen is what macaroond_tokens_seen_total says.
func (o *overlap) seen(format, epoch string) float64 {
	o.t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(o.svc.Metrics().Collectors()...)
	all, err := r.Gather()
	ok(o.t, err)
	for _, family := range all {
		if family.GetName() != "macaroond_tokens_seen_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["format"] == format && labels["epoch"] == epoch {
				return m.GetCounter().GetValue()
			}
		}
	}
	o.t.Fatalf("no metric for %s, %s", format, epoch)
	return 0
}

// Tokens of an earlier format verify through the overlap and are counted; from
// its end on they are refused as tokens under an unknown key are, everywhere, and
// tokens of the format that is minted in are not.
func TestFormatOverlap(t *testing.T) {
	o := newOverlap(t)
	photos, err := caveats.Audience("photos")
	ok(t, err)
	old, current := o.mint(token.Earlier, photos), o.mint(token.Minting, photos)
	svc := storage.Service{ID: "svc_0123456789abcdef", Serves: []string{"photos"}}
	check := func(when, want string) {
		t.Helper()
		if got := o.ask(old); got != want {
			t.Errorf("%s: the earlier format: %s, want %s", when, got, want)
		}
		if got := o.ask(current); got != api.CodeOK {
			t.Errorf("%s: the one that is minted: %s", when, got)
		}
		in, err := o.svc.Introspect(t.Context(), old, true, svc)
		if err != nil || in.Active != (want == api.CodeOK) || in.Prefix != nil && want != api.CodeOK {
			t.Errorf("%s: introspection: %+v, %v", when, in, err)
		}
	}
	check("no end is configured", api.CodeOK)
	if n := o.seen("m0", "signing"); n != 2 {
		t.Errorf("%v of the earlier format were seen, want 2", n)
	}
	if n := o.seen("m1", "signing"); n != 1 {
		t.Errorf("%v of the minted format were seen, want 1", n)
	}
	end := o.clock().Add(time.Minute)
	o.set.FormatEnds = []service.FormatEnd{{Format: token.Earlier, At: end}}
	o.svc.SetSettings(o.set)
	check("before the end", api.CodeOK)
	o.mu.Lock()
	o.now = end
	o.mu.Unlock()
	check("at the end", api.CodeInvalid)
	if n := o.seen("m0", "signing"); n != 4 {
		t.Errorf("%v of the earlier format were seen, want 4: what is refused is not", n)
	}
	if _, err := o.svc.Revoke(t.Context(), old, nil, service.Source{}); err == nil {
		t.Error("one that is over can be revoked: its chain held")
	}
	if _, err := o.svc.Revoke(t.Context(), current, nil, service.Source{}); err != nil {
		t.Error(err)
	}
}

// A token of one format is none of the other: the label and the identifier are
// both in the derivation.
func TestFormatsAreApart(t *testing.T) {
	o := newOverlap(t)
	photos, err := caveats.Audience("photos")
	ok(t, err)
	id := token.Identifier{Format: token.Earlier, Epoch: 1, RootKeyID: token.NewRootKeyID()}
	old, known := o.ring.RootKey(id)
	if text := id.String(); !known || !strings.HasPrefix(text, "m0.1.") {
		t.Fatalf("%s, known %v", text, known)
	}
	if got, err := token.ParseIdentifier(id.String()); err != nil || got != id {
		t.Errorf("%v comes back as %v, %v", id, got, err)
	}
	id.Format = token.Minting
	current, _ := o.ring.RootKey(id)
	if old == current {
		t.Error("one root key in two formats")
	}
	for _, key := range []token.RootKey{old, current} {
		for _, f := range []token.Format{token.Earlier, token.Minting} {
			id.Format = f
			tok, err := token.Mint(&key, "https://auth.example", id, token.Identity{
				User: "usr_AliceAliceAlice1", Device: "dev_PhonePhonePhone1", Expires: o.clock().Add(time.Hour),
			}, photos)
			ok(t, err)
			want := api.CodeInvalid
			if (key == old) == (f == token.Earlier) {
				want = api.CodeOK
			}
			if got := o.ask(tok.Text()); got != want {
				t.Errorf("identifier %s: %s, want %s", id, got, want)
			}
		}
	}
}

// What is not in the table is no identifier.
func TestFormatNames(t *testing.T) {
	if f, known := token.FormatNamed("m1"); !known || f != token.Minting || f.String() != "m1" || f.Label() != "macaroond/root-key/v1" {
		t.Errorf("m1 is %v, known %v", f, known)
	}
	for _, name := range []string{"", "m", "m2", "M1", "m01", "m1."} {
		if _, known := token.FormatNamed(name); known {
			t.Errorf("%q is known", name)
		}
	}
	for f := range token.Format(token.Formats()) {
		if len(f.String()) != 2 {
			t.Errorf("the name %q does not have the two characters that an identifier's room is for", f)
		}
	}
}

// Tokens of an epoch that signs no more are counted apart.
func TestEarlierEpochsAreCounted(t *testing.T) {
	o := newOverlap(t)
	photos, err := caveats.Audience("photos")
	ok(t, err)
	text := o.mint(token.Minting, photos)
	if _, err := o.svc.RotateKeys(t.Context(), "", service.Source{}); err != nil {
		t.Fatal(err)
	}
	if got := o.ask(text); got != api.CodeOK {
		t.Fatal(got)
	}
	if signing, earlier := o.seen("m1", "signing"), o.seen("m1", "earlier"); signing != 0 || earlier != 1 {
		t.Errorf("%v of the signing epoch, %v of earlier ones", signing, earlier)
	}
}
