package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"macaroond/service"
	"macaroond/service/client"
	"macaroond/service/guard"
)

// What is configured is what the service is made of.
func TestSettings(t *testing.T) {
	c, err := configured([]string{
		"issuer=https://auth.example", "audience=own", "authz_audience=guarded", "signup=device", "root_ttl=101h", "session_max=102h",
		"renew_grace=3m", "access_ttl=4m", "max_staleness=5m", "once_max_ttl=6h", "max_prefix_ttl=7m", "fresh_login=8m", "max_devices=9",
		"audit_retention=10h", "browser_audiences=photos", "rotate_every=11h",
		"hash_memory=20000", "hash_time=3", "hash_threads=4", "hash_pool=5", "hash_queue=6",
	})
	if err != nil {
		t.Fatal(err)
	}
	got := c.service(nil, nil, nil)
	if want := (service.Settings{
		Issuer: "https://auth.example", Audience: "own", GatewayAudience: "guarded", Signup: "device", RootTTL: 101 * time.Hour, SessionMax: 102 * time.Hour,
		RenewGrace: 3 * time.Minute, AccessTTL: 4 * time.Minute, MaxStaleness: 5 * time.Minute, OnceMaxTTL: 6 * time.Hour, MaxPrefixTTL: 7 * time.Minute,
		FreshLogin: 8 * time.Minute, MaxDevices: 9, AuditRetention: 10 * time.Hour, Browser: []string{"photos"}, RotateEvery: 11 * time.Hour,
	}); !reflect.DeepEqual(got.Settings, want) {
		t.Errorf("%+v, want %+v", got.Settings, want)
	}
	if want := (service.Hashing{MemoryKiB: 20000, Time: 3, Threads: 4, Pool: 5, Queue: 6}); got.Hashing != want {
		t.Errorf("%+v, want %+v", got.Hashing, want)
	}
	if got.Limits != service.DefaultLimits {
		t.Errorf("%+v", got.Limits)
	}
	if c, err = configured([]string{"audience=own"}); err != nil || c.settings().GatewayAudience != "own" {
		t.Errorf("%+v, %v", c, err)
	}
}

// And what is configured of a sidecar is what its verifier is made of.
func TestEdgeSettings(t *testing.T) {
	c, err := edgeConfigured([]string{"authority=http://auth.example", "plain_http=true", "audience=photos", "max_staleness=5m"})
	if err != nil {
		t.Fatal(err)
	}
	cred, log := client.Basic("svc_x", "mds_y"), slog.New(slog.DiscardHandler)
	if got, want := c.guard(cred, nil, log), (guard.Options{
		Authority: "http://auth.example", Credential: cred, Audience: "photos", MaxStaleness: 5 * time.Minute, Log: log,
		Client: client.Options{PlainHTTP: true, UserAgent: "macaroond-edge", Timeout: 5 * time.Second},
	}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// configured is a configuration of these settings, KEY=VALUE, and of defaults.
func configured(settings []string, flags ...string) (*config, error) {
	return loadConfig(given(flags), environment(settings))
}

func edgeConfigured(settings []string) (*edgeConfig, error) {
	c := &edgeConfig{}
	if err := fill(c, given(nil), environment(settings), nil); err != nil {
		return nil, err
	}
	return c, c.check()
}

func environment(settings []string) (environ []string) {
	for _, s := range settings {
		key, value, _ := strings.Cut(s, "=")
		environ = append(environ, "MACAROOND_"+strings.ToUpper(key)+"="+value)
	}
	return environ
}

func given(args []string) *pflag.FlagSet {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.Bool("dev", false, "")
	flags.String("config", "", "")
	if err := flags.Parse(args); err != nil {
		panic(err)
	}
	return flags
}

// What each key may be, up to its bounds. A setting that is refused is named.
func TestConfigValues(t *testing.T) {
	word := strings.Repeat("w", 128)
	for _, row := range []struct {
		settings string // with blanks between them; the first is the one that is refused
		ok       bool
	}{
		{"listen=127.0.0.1:0", true},
		{"listen=:8420", true},
		{"listen=unix:/run/s", true},
		{"listen=", false},
		{"listen=unix:", false},
		{"listen=8420", false},
		{"listen=127.0.0.1:", false},
		{"listen=127.0.0.1:65536", false},
		{"metrics_listen=127.0.0.1:9000", true},
		{"metrics_listen=unix:/x", false},
		{"metrics_listen=127.0.0.1:8420", false},
		{"metrics_listen=:8420", false},
		{"metrics_listen=0.0.0.0:8420", false},
		{"metrics_listen=[::]:8420", false},
		{"metrics_listen=127.0.0.1:9000 listen=:9000", false},
		{"metrics_listen=127.0.0.2:8420", true},
		{"metrics_listen=127.0.0.1:0 listen=127.0.0.1:0", true},
		{"data_dir=", false},
		{"signup=off", true},
		{"signup=password", true},
		{"signup=device", true},
		{"signup=", false},
		{"remote_user=id", true},
		{"remote_user=username", true},
		{"remote_user=name", false},
		{"log_level=debug", true},
		{"log_level=warn", true},
		{"log_level=error", true},
		{"log_level=DEBUG", false},
		{"root_ttl=1m access_ttl=1m", true},
		{"root_ttl=59s access_ttl=1s", false},
		{"root_ttl=8784h", true},
		{"root_ttl=8784h1s", false},
		{"renew_grace=0", true},
		{"renew_grace=24h", true},
		{"renew_grace=24h1s", false},
		{"renew_grace=-1s", false},
		{"session_max=0", true},
		{"session_max=1m", true},
		{"session_max=59s", false},
		{"session_max=-1m", false},
		{"access_ttl=1s", true},
		{"access_ttl=999ms", false},
		{"access_ttl=720h", true},
		{"access_ttl=720h1s", false},
		{"max_staleness=1s", true},
		{"max_staleness=999ms", false},
		{"once_max_ttl=0", true},
		{"once_max_ttl=8784h", true},
		{"once_max_ttl=8784h1s", false},
		{"once_max_ttl=-1s", false},
		{"max_prefix_ttl=0", true},
		{"max_prefix_ttl=-1s", false},
		{"rotate_every=0", true},
		{"rotate_every=1h", true},
		{"rotate_every=59m", false},
		{"rotate_every=-1h", false},
		{"fresh_login=0", true},
		{"fresh_login=24h", true},
		{"fresh_login=24h1s", false},
		{"fresh_login=-1s", false},
		{"max_devices=1", true},
		{"max_devices=10000", true},
		{"max_devices=10001", false},
		{"max_devices=0", false},
		{"audit_retention=0", true},
		{"audit_retention=-1s", false},
		{"hash_memory=19456", true},
		{"hash_memory=19455", false},
		{"hash_memory=4194304", true},
		{"hash_memory=4194305", false},
		{"hash_time=2", true},
		{"hash_time=1", false},
		{"hash_time=100", true},
		{"hash_time=101", false},
		{"hash_threads=1", true},
		{"hash_threads=0", false},
		{"hash_threads=255", true},
		{"hash_threads=256", false},
		{"hash_pool=1", true},
		{"hash_pool=0", false},
		{"hash_pool=1024", true},
		{"hash_pool=1025", false},
		{"hash_queue=0", true},
		{"hash_queue=-1", false},
		{"hash_queue=100000", true},
		{"hash_queue=100001", false},
		{"hash_queue=1x", false},
		{"root_ttl=x max_devices=x", false}, // the first one is told
		{"tls_key_file=k", false},
		{"tls_key_file= tls_cert_file=c", false},
		{"tls_key_file=k tls_cert_file=c", true},
		{"key=x key_file=k", false},
		{"audience=" + word, true},
		{"audience=" + word + "w", false},
		{"audience=!~", true},
		{"audience=", false},
		{"audience=ä", false},
		{"authz_audience=photos", true},
		{"authz_audience=\x7f", false},
		{"browser_audiences=a,b", true},
		{"browser_audiences=ä", false},
		{"trusted_proxies=10.0.0.0/8,::1/128", true},
		{"trusted_proxies=10.0.0.1", false},

		{"authz_origin=", true},
		{"authz_origin=https://api.example", true},
		{"authz_origin=http://127.0.0.1:8080", true},
		{"authz_origin=https://api.example/", false},
		{"authz_origin=api.example", false},
		{"authz_origin=https://", false},
		{"authz_origin=ftp://api.example", false},
		{"authz_origin=https://%zz", false},

		// Pages of these origins read what the token of a user gives: each by its name.
		{"cors_origins=https://app.example,http://localhost:3000", true},
		{"cors_origins=app://-", true}, // a desktop app's
		{"cors_origins=*", false},
		{"cors_origins=https://*", false},
		{"cors_origins=https://*.example", false},
		{"cors_origins=https://app.example/", false},
		{"cors_origins=https://app.example?", false},
		{"cors_origins=https://user@app.example", false},
		{"cors_origins=//app.example", false},
		{"cors_origins=https://", false},
		{"cors_origins=null", false},
		{"cors_origins=https://%zz", false},

		{"issuer=", true},
		{"issuer=https://auth.example/path", true},
		{"issuer=http://auth.example", true},
		{"issuer=auth.example", false},
		{"issuer=ftp://auth.example", false},
		{"issuer=https://", false},
		{"issuer=https://%zz", false},
		{"issuer=https://auth.example?x", false},
		{"issuer=https://auth.example?", false},
		{"issuer=https://auth.example#x", false},
		{"issuer=https://auth.example#", false},
		{"issuer=https://user@auth.example", false},
		{"issuer=https://" + strings.Repeat("a", 256-len("https://")), true},
		{"issuer=https://" + strings.Repeat("a", 257-len("https://")), false},
	} {
		_, err := configured(strings.Split(row.settings, " "))
		checkSetting(t, row.settings, err, row.ok)
	}
	for _, row := range []struct {
		settings string
		ok       bool
	}{
		{"listen=8430", false},
		{"metrics_listen=unix:/x", false},
		{"metrics_listen=127.0.0.1:8430", false},
		{"metrics_listen=:8430", false},
		{"authority=https://auth.example", true},
		{"authority=http://127.0.0.1:8420", true},
		{"authority=http://auth.example", false},
		{"authority=http://auth.example plain_http=true", true},
		{"authority=auth.example", false},
		{"plain_http=perhaps", false},
		{"audience=" + word, true},
		{"audience=" + word + "w", false},
		{"authz_origin=https://api.example", true},
		{"authz_origin=https://api.example/", false},
		{"credential=a:b", true},
		{"credential=a:b credential_file=c", false},
		{"tls_key_file=k", false},
		{"tls_key_file= tls_cert_file=c", false},
		{"remote_user=username", true},
		{"remote_user=name", false},
		{"max_staleness=3s", true},
		{"max_staleness=2999ms", false},
		{"log_level=loud", false},
		{"trusted_proxies=", true},
		{"trusted_proxies=::ffff:127.0.0.0/104", false},
	} {
		_, err := edgeConfigured(strings.Split(row.settings, " "))
		checkSetting(t, "edge: "+row.settings, err, row.ok)
	}
}

func checkSetting(t *testing.T, settings string, err error, ok bool) {
	t.Helper()
	key, _, _ := strings.Cut(strings.TrimPrefix(settings, "edge: "), "=")
	var usage usageError
	if (err == nil) != ok || !ok && (!errors.As(err, &usage) || !strings.HasPrefix(err.Error(), key+": ")) {
		t.Errorf("%s: %v, want it taken: %v", settings, err, ok)
	}
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:8420": true, "127.0.0.1": true, "127.1.2.3:1": true, "localhost": true, "localhost:8420": true, "[::1]:8420": true, "[::1]": true,
		"": false, ":8420": false, "0.0.0.0:8420": false, "[::]:8420": false, "192.0.2.1": false, "localhost.example": false,
	} {
		if got := loopback(addr); got != want {
			t.Errorf("%q: %v", addr, got)
		}
	}
}

// A file's values have their types, and are not read as if they were left out.
func TestConfigFileTypes(t *testing.T) {
	for _, row := range []struct {
		text string
		want string // in the error; empty: none
	}{
		{"key_file: k\nsignup: off\nmax_devices: 7\nroot_ttl: 2h\nrenew_grace: 0\ntrusted_proxies: [10.0.0.0/8]", ""},
		{"trusted_proxies: |\n  10.0.0.0/8\n  ::1/128", ""},
		{"key_file: 7", "key_file: not a string"},
		{"authz_audience: [a]", "authz_audience: not a string"},
		{"trusted_proxies: 7", "trusted_proxies: not a list of strings"},
		{"trusted_proxies: [7]", "trusted_proxies: not a list of strings"},
		{"root_ttl: 7", "root_ttl: not a duration"},
		{"max_devices: 7.5", "max_devices: not a whole number"},
		{"max_devices: 7 devices", "max_devices: not a whole number"},
	} {
		file := filepath.Join(t.TempDir(), "c.yaml")
		must(t, os.WriteFile(file, []byte(row.text+"\n"), 0o600))
		_, err := configured(nil, "--config", file)
		if (err == nil) != (row.want == "") || err != nil && !strings.HasPrefix(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.text, err, row.want)
		}
	}
}

// Only to try it out are the gateways on this machine trusted, and its data here.
func TestConfigOfDev(t *testing.T) {
	for _, row := range []struct {
		flags, settings []string
		proxies, data   string
	}{
		{nil, nil, "", "/var/lib/macaroond"},
		{[]string{"--dev"}, nil, "127.0.0.0/8 ::1/128", ".macaroond"},
		{[]string{"--dev=false"}, nil, "", "/var/lib/macaroond"},
		{[]string{"--dev"}, []string{"trusted_proxies=", "data_dir=d"}, "", "d"},
	} {
		c, err := configured(row.settings, row.flags...)
		if err != nil || strings.Join(c.TrustedProxies, " ") != row.proxies || c.DataDir != row.data {
			t.Errorf("%q %q: %+v, %v", row.flags, row.settings, c, err)
		}
	}
}
