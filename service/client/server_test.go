package client_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/httpapi"
	"macaroond/service/keyring"
	"macaroond/service/token"
	"macaroond/storage/sqlite"
)

const password = "correct horse battery staple"

// authority is a real server on a database of its own, with an administrator.
func authority(t *testing.T) *client.Client {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "macaroond.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	keys, err := keyring.ParseSealingKeys(keyring.NewKeyText())
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	svc, err := service.New(t.Context(), service.Config{
		Store: store, Keys: keys, Now: time.Now, Log: log, Limits: service.DefaultLimits,
		Hashing: service.Hashing{MemoryKiB: 19456, Time: 2, Threads: 1, Pool: 2, Queue: 8},
		Settings: service.Settings{
			Issuer: "https://auth.example", Audience: "macaroond", GatewayAudience: "macaroond", Signup: "device",
			RootTTL: 24 * time.Hour, RenewGrace: time.Minute, AccessTTL: time.Minute, MaxStaleness: 30 * time.Second, MaxDevices: 10, FreshLogin: 10 * time.Minute,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { svc.Run(ctx) })
	t.Cleanup(func() { stop(); wg.Wait() })
	if _, err := svc.AddUser(t.Context(), api.UserIn{Username: "root", Password: password, Role: "admin"}, service.ActorOperator, service.Source{}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(httpapi.New(httpapi.Config{Service: svc, Version: api.Version{Version: "v0"}, Log: log, Requests: httpapi.NewRequests()}))
	t.Cleanup(server.Close)
	c, err := client.New(server.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var p *api.Problem
	if !errors.As(err, &p) || p.Code != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

// The life of a user, and what an administrator does about it.
func TestAgainstTheServer(t *testing.T) {
	c, ctx := authority(t), t.Context()
	if err := c.Live(ctx); err != nil {
		t.Error(err)
	}
	if h, err := c.Ready(ctx); err != nil || h.Status != "ok" {
		t.Errorf("ready: %+v, %v", h, err)
	}
	if v, err := c.Version(ctx); err != nil || v.Version != "v0" {
		t.Errorf("version: %+v, %v", v, err)
	}

	// A device, with its token as the only credential, and a way back.
	first := must[*api.Grant](t)(c.Signup(ctx, api.SignupIn{Username: "alice", Device: api.DeviceIn{Name: "phone"}}))
	_, err := c.Signup(ctx, api.SignupIn{Username: "Alice", Device: api.DeviceIn{Name: "phone"}})
	wantCode(t, err, api.CodeNameTaken)
	second := must[*api.Grant](t)(c.Recover(ctx, api.RecoverIn{Username: "alice", Code: first.RecoveryCodes[3], Device: api.DeviceIn{Name: "laptop"}}))
	_, err = c.Devices(ctx, client.Bearer(first.Token))
	wantCode(t, err, api.CodeRevoked)
	me := client.Bearer(second.Token)
	if d := must[*api.Device](t)(c.RenameDevice(ctx, me, second.Device.ID, "desk")); d.Name != "desk" || !d.Current {
		t.Errorf("%+v", d)
	}

	// The administrator.
	grant := must[*api.Grant](t)(c.Login(ctx, api.LoginIn{Username: "root", Password: password, Device: api.DeviceIn{Name: "console"}, TTL: 3600}))
	if grant.ExpiresIn < 3500 || grant.ExpiresIn > 3600 {
		t.Errorf("expires in %d s", grant.ExpiresIn)
	}
	admin := client.Bearer(grant.Token)
	_, err = c.Users(ctx, me, "", 0)
	wantCode(t, err, api.CodeForbidden)
	bob := must[*api.User](t)(c.AddUser(ctx, admin, api.UserIn{Username: "bob", Password: password}))
	page := must[*api.Users](t)(c.Users(ctx, admin, "", 2))
	rest := must[*api.Users](t)(c.Users(ctx, admin, page.Next, 2))
	if len(page.Users) != 2 || page.Next == "" || len(rest.Users) != 1 || rest.Next != "" {
		t.Errorf("pages %+v and %+v", page, rest)
	}
	login := api.LoginIn{Username: "bob", Password: password, Device: api.DeviceIn{Name: "d"}}
	for i, err := range []error{c.SuspendUser(ctx, admin, bob.ID), c.ResumeUser(ctx, admin, bob.ID), c.SetPassword(ctx, admin, bob.ID, "another "+password), c.SuspendUser(ctx, admin, bob.ID)} {
		if err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	_, err = c.Login(ctx, login)
	wantCode(t, err, api.CodeBadCredentials)
	login.Password = "another " + password
	_, err = c.Login(ctx, login)
	wantCode(t, err, api.CodeSuspended)
	wantCode(t, c.SuspendUser(ctx, admin, token.NewID(token.UserPrefix)), api.CodeNotFound)

	// A service judges a narrowed token.
	svc := must[*api.Service](t)(c.AddService(ctx, admin, api.ServiceIn{Name: "photos", Serves: []string{"photos"}}))
	if all := must[[]api.Service](t)(c.Services(ctx, admin)); len(all) != 1 || all[0].Secret != "" {
		t.Errorf("%+v", all)
	}
	asService := client.Basic(svc.ID, svc.Secret)
	root := must[*token.Token](t)(token.Parse(second.Token))
	narrowed := must[*token.Token](t)(client.Narrow(root, client.Narrowing{For: time.Minute, Audience: "photos", Methods: []string{"GET"}}, time.Now()))
	plain := must[*token.Token](t)(client.Narrow(root, client.Narrowing{For: time.Minute, Audience: "photos"}, time.Now()))
	for method, want := range map[string]string{"GET": api.CodeOK, "POST": api.CodeRefused} {
		d := must[*api.Decision](t)(c.Verify(ctx, asService, api.VerifyIn{Token: narrowed.Text(), Request: api.Request{Audience: "photos", Method: method}}))
		if d.Code != want || d.Principal.Username != "alice" {
			t.Errorf("%s: %+v", method, d)
		}
	}
	if in := must[*api.Introspection](t)(c.Introspect(ctx, asService, plain.Text())); !in.Active || in.Username != "alice" || in.Aud != "photos" {
		t.Errorf("%+v", in)
	}
	_, err = c.Introspect(ctx, client.Basic(svc.ID, "wrong"), plain.Text())
	if e, ok := errors.AsType[*client.OAuthError](err); !ok || e.Code != "invalid_client" || e.Status != 401 {
		t.Errorf("introspection with a wrong secret: %v", err)
	}

	// Revocation, in its several ways.
	if err := c.RevokeOAuth(ctx, asService, plain.Text()); err != nil {
		t.Error(err)
	}
	if in := must[*api.Introspection](t)(c.Introspect(ctx, asService, plain.Text())); in.Active {
		t.Errorf("revoked and active: %+v", in)
	}
	if grain := must[string](t)(c.RevokeBranch(ctx, me, narrowed.UnverifiedCaveats()[token.MintCaveats:])); grain != "branch" {
		t.Error(grain)
	}
	d := must[*api.Decision](t)(c.Verify(ctx, me, api.VerifyIn{Token: narrowed.Text(), Request: api.Request{Audience: "photos", Method: "GET"}}))
	if d.Code != api.CodeRevoked {
		t.Errorf("%+v", d)
	}
	if grain := must[string](t)(c.Revoke(ctx, me, narrowed.Text())); grain != "branch" {
		t.Error(grain)
	}
	if err := c.RemoveService(ctx, admin, svc.ID); err != nil {
		t.Error(err)
	}
	_, err = c.Verify(ctx, asService, api.VerifyIn{Token: narrowed.Text()})
	wantCode(t, err, api.CodeBadCredentials)
	if audit := must[*api.Audit](t)(c.Audit(ctx, admin, 1, 3)); len(audit.Entries) != 3 || audit.Entries[0].Seq != 2 {
		t.Errorf("%+v", audit)
	}
	for i, err := range []error{c.RevokeOtherDevices(ctx, me), c.Logout(ctx, me), c.RevokeAllDevices(ctx, admin)} {
		if err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	_, err = c.Devices(ctx, me)
	wantCode(t, err, api.CodeRevoked)
}
