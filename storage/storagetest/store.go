package storagetest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"

	"macaroond/storage"
)

// calls are one of each method, for clauses about all of them.
func calls(k *kit, ctx context.Context) map[string]func() error {
	in := k.asking(storage.User{ID: "usr_nobody"}, 1, "", T0)
	ev := event("never", T0)
	return map[string]func() error{
		"State":         func() error { _, err := k.s.State(ctx); return err },
		"CreateUser":    func() error { _, err := k.s.CreateUser(ctx, k.newUser("never"), nil, nil, ev); return err },
		"User":          func() error { _, err := k.s.User(ctx, "usr_nobody"); return err },
		"UserByNameKey": func() error { _, err := k.s.UserByNameKey(ctx, "nobody"); return err },
		"Users":         func() error { _, err := k.s.Users(ctx, "", 1); return err },
		"SetPassword": func() error {
			_, err := k.s.SetPassword(ctx, storage.SetPassword{UserID: "usr_nobody", Hash: "", Revoke: true}, ev)
			return err
		},
		"SuspendUser":  func() error { _, err := k.s.SuspendUser(ctx, "usr_nobody", ev); return err },
		"ResumeUser":   func() error { return k.s.ResumeUser(ctx, "usr_nobody", ev) },
		"IssueDevice":  func() error { _, _, err := k.s.IssueDevice(ctx, in, ev); return err },
		"Devices":      func() error { _, err := k.s.Devices(ctx, "usr_nobody"); return err },
		"Device":       func() error { _, err := k.s.Device(ctx, "usr_nobody", "dev_nobody"); return err },
		"RenameDevice": func() error { _, err := k.s.RenameDevice(ctx, "usr_nobody", "dev_nobody", "", ev); return err },
		"RenewDevice": func() error {
			_, err := k.s.RenewDevice(ctx, storage.RenewDevice{}, "theft", ev)
			return err
		},
		"TouchDevices": func() error { return k.s.TouchDevices(ctx, []storage.Sighting{{DeviceID: "dev_nobody", Last: T0}}) },
		"RevokeDevices": func() error {
			_, err := k.s.RevokeDevices(ctx, storage.RevokeDevices{UserID: "usr_nobody"}, ev)
			return err
		},
		"RevokeBranch": func() error {
			_, _, err := k.s.RevokeBranch(ctx, storage.RevokeBranch{RootKeyID: key16(1), Fingerprint: key16(2)}, ev)
			return err
		},
		"Revocations": func() (last error) {
			for _, err := range k.s.Revocations(ctx, 0) {
				last = err
			}
			return last
		},
		"Epochs":      func() error { _, err := k.s.Epochs(ctx); return err },
		"CreateEpoch": func() error { _, err := k.s.CreateEpoch(ctx, false, sealed, ev); return err },
		"RetireEpochs": func() error {
			_, err := k.s.RetireEpochs(ctx, storage.RetireEpochs{Number: 1, Seal: sealed, Begun: ev}, ev)
			return err
		},
		"AddService":    func() error { return k.s.AddService(ctx, k.service("never"), ev) },
		"Services":      func() error { _, err := k.s.Services(ctx); return err },
		"Accept":        func() error { return k.s.Accept(ctx, points(T0, 1)) },
		"RemoveService": func() error { _, err := k.s.RemoveService(ctx, "svc_nobody", T0, ev); return err },
		"AddServiceSecret": func() error {
			return k.s.AddServiceSecret(ctx, storage.AddServiceSecret{ServiceID: "svc_nobody", Secret: serviceSecret(1), Max: 1}, ev)
		},
		"RemoveServiceSecret": func() error { _, err := k.s.RemoveServiceSecret(ctx, "svc_nobody", "sec_nobody", T0, ev); return err },
		"MintService":         func() error { return k.s.MintService(ctx, storage.MintService{ServiceID: "svc_nobody"}, ev) },
		"IssueSubject":        func() error { _, _, err := k.s.IssueSubject(ctx, storage.User{}, in, ev); return err },
		"Subject":             func() error { _, err := k.s.Subject(ctx, "svc_nobody", "1"); return err },
		"Subjects":            func() error { _, err := k.s.Subjects(ctx, "svc_nobody", "", 1); return err },
		"SuspendSubject":      func() error { _, err := k.s.SuspendSubject(ctx, "svc_nobody", "1", ev); return err },
		"ResumeSubject":       func() error { return k.s.ResumeSubject(ctx, "svc_nobody", "1", ev) },
		"AppendAudit":         func() error { return k.s.AppendAudit(ctx, ev) },
		"Writable":            func() error { return k.s.Writable(ctx) },
		"Audit":               func() error { _, err := k.s.Audit(ctx, 0, 1); return err },
		"Expire":              func() error { _, err := k.s.Expire(ctx, storage.Expire{Now: T0, Limit: 1}); return err },
		"Backup":              func() error { return k.s.Backup(ctx, filepath.Join(k.TempDir(), "backup")) },
		"Restored":            func() error { _, err := k.s.Restored(ctx, false, ev); return err },
	}
}

var store = []clause{
	{"a generation is 16 random bytes in base64url", func(k *kit) {
		if g := k.state().Generation; !regexp.MustCompile(`^[A-Za-z0-9_-]{22}$`).MatchString(g) {
			k.Fatalf("generation %q", g)
		}
	}},
	{"a context that has ended is the error, and nothing changes", func(k *kit) {
		ctx, cancel := context.WithCancel(k.Context())
		cancel()
		k.unchanged(func() {
			for name, call := range calls(k, ctx) {
				var u *storage.UnavailableError
				if err := call(); !errors.Is(err, context.Canceled) || errors.As(err, &u) {
					k.Errorf("%s: %v", name, err)
				}
			}
			for range 100 { // never, not seldom
				k.wantErr(k.s.AppendAudit(ctx, event("never", T0)), context.Canceled)
			}
		})
	}},
	{"a change that is refused, whatever for, does not say that none can be made", func(k *kit) {
		for name, call := range calls(k, k.Context()) {
			_ = call() // most are of what is not there
			if err := k.s.Writable(k.Context()); err != nil {
				k.Fatalf("after %s: %v", name, err)
			}
		}
	}},
	{"after Close everything is unavailable, and Close again is fine", func(k *kit) {
		k.must(k.s.Close())
		for name, call := range calls(k, k.Context()) {
			var u *storage.UnavailableError
			if err := call(); !errors.As(err, &u) {
				k.Errorf("%s: %v", name, err)
			}
		}
		k.must(k.s.Close())
	}},
	{"an event without a time is refused, whole", func(k *kit) {
		k.unchanged(func() {
			_, err := k.s.CreateUser(k.Context(), k.newUser("a"), nil, nil, storage.Event{Type: "signup"})
			if err == nil {
				k.Fatal("accepted")
			}
		})
	}},
	{"a backup is a new file of the owner's alone, made while others write", func(k *kit) {
		k.user("a")
		path := filepath.Join(k.TempDir(), "backup")
		done := make(chan error)
		go func() {
			var err error
			for range 20 {
				err = errors.Join(err, k.s.AppendAudit(k.Context(), event("a", T0)))
			}
			done <- err
		}()
		k.must(k.s.Backup(k.Context(), path))
		k.must(<-done)
		info, err := os.Stat(path)
		k.must(err)
		k.equal("mode", info.Mode(), os.FileMode(0o600))
		if info.Size() == 0 {
			k.Fatal("empty backup")
		}
		left, err := os.ReadDir(filepath.Dir(path))
		k.must(err)
		k.equal("files", len(left), 1)
	}},
	{"a backup overwrites nothing", func(k *kit) {
		path := filepath.Join(k.TempDir(), "backup")
		k.must(os.WriteFile(path, []byte("mine"), 0o600))
		if k.s.Backup(k.Context(), path) == nil {
			k.Fatal("no error")
		}
		got, err := os.ReadFile(path)
		k.must(err)
		k.equal("file", string(got), "mine")
	}},
}
