package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"macaroond/service"
	"macaroond/service/keyring"
	"macaroond/service/token"
	"macaroond/storage"
)

// config is the configuration, told once: a field's tags are its key, default
// and documentation, from which flags' help, `config print` and the table in
// docs/operations.md are made. "reload" marks what SIGHUP may change.
type config struct {
	Listen         string        `key:"listen" default:"127.0.0.1:8420" doc:"Address of the API: HOST:PORT, or unix:PATH."`
	MetricsListen  string        `key:"metrics_listen" default:"" doc:"Address of /metrics (Prometheus); empty is off. It has no authentication: keep it private."`
	DataDir        string        `key:"data_dir" default:"/var/lib/macaroond" doc:"Directory of the database, mode 0700. With --dev the default is .macaroond."`
	Issuer         string        `key:"issuer" default:"" doc:"Public URL of this service: the tokens' location. Needed outside --dev." reload:"yes"`
	Audience       string        `key:"audience" default:"macaroond" doc:"The authority's own audience: tokens narrowed for its own API name it." reload:"yes"`
	AuthzAudience  string        `key:"authz_audience" default:"" doc:"Audience judged under /authz when the gateway's URL names none; empty is the authority's own. Under /authz/request it is the only one." reload:"yes"`
	AuthzOrigin    string        `key:"authz_origin" default:"" doc:"Origin of what gateways guard, as clients write it, such as https://api.example.com: what a DPoP proof at /authz must name. Empty refuses tokens there that are bound to a key." reload:"yes"`
	Key            string        `key:"key" default:"" secret:"yes" doc:"Key-encryption keys, one a line, the first seals. Prefer key_file."`
	KeyFile        string        `key:"key_file" default:"" doc:"File with the key-encryption keys, mode 0600. A systemd credential named macaroond_key is found by itself."`
	TLSCertFile    string        `key:"tls_cert_file" default:"" doc:"Certificate chain (PEM) for TLS on listen; read again on SIGHUP." reload:"yes"`
	TLSKeyFile     string        `key:"tls_key_file" default:"" doc:"Private key (PEM) for tls_cert_file." reload:"yes"`
	TrustedProxies []string      `key:"trusted_proxies" default:"" doc:"CIDRs of gateways: only they may ask /authz, and only their X-Forwarded-For is believed. With --dev the default is loopback. A Unix socket's peer counts as 127.0.0.1." reload:"yes"`
	CORSOrigins    []string      `key:"cors_origins" default:"" doc:"Origins whose pages may call /v1 and /oauth2 from a browser." reload:"yes"`
	BrowserAud     []string      `key:"browser_audiences" default:"" doc:"Audiences, besides the authority's own, for which the cookie of browser mode is good: at /authz and /v1/verify, with CSRF checks." reload:"yes"`
	RemoteUser     string        `key:"remote_user" default:"id" doc:"What the Remote-User header tells a backend: id or username." reload:"yes"`
	Signup         string        `key:"signup" default:"off" doc:"Who may sign up: off (nobody), password (with a password), device (also with nothing but a name)." reload:"yes"`
	RootTTL        time.Duration `key:"root_ttl" default:"720h" doc:"Longest lifetime of a root macaroon (30 days): a device that is not renewed for so long logs in again." reload:"yes"`
	RenewGrace     time.Duration `key:"renew_grace" default:"60s" doc:"How long a root macaroon may still be presented for renewal after its successor was first used; later it is theft and the device is revoked." reload:"yes"`
	SessionMax     time.Duration `key:"session_max" default:"0" doc:"How long after the login renewals can keep a session alive; 0 is without end." reload:"yes"`
	AccessTTL      time.Duration `key:"access_ttl" default:"10m" doc:"Lifetime of the narrowed token that a login adds when it names an audience." reload:"yes"`
	MaxStaleness   time.Duration `key:"max_staleness" default:"30s" doc:"How old the revocation list may be, while the database cannot be read, before every token is refused as stale (503)." reload:"yes"`
	OnceMaxTTL     time.Duration `key:"once_max_ttl" default:"24h" doc:"How far away the time-before in front of a once may be: the ledger keeps what was used until then. 0 refuses one-time tokens." reload:"yes"`
	MaxPrefixTTL   time.Duration `key:"max_prefix_ttl" default:"2h" doc:"How far away the expiry that a prefix covers may be. A prefix lets a resource server verify tokens of its own audience without asking; whoever steals it can make such tokens until that expiry." reload:"yes"`
	RotateEvery    time.Duration `key:"rotate_every" default:"2160h" doc:"How old the signing epoch becomes before another begins (90 days); 0 leaves that to keys rotate. Nobody is logged out by it." reload:"yes"`
	FreshLogin     time.Duration `key:"fresh_login" default:"10m" doc:"How long after a login with a password or recovery code a device may link others, remove others, and have new recovery codes without showing one again. Without proof or fresh login, these wait a day. 0 asks each time." reload:"yes"`
	AcceptFormats  []string      `key:"accept_formats" default:"" doc:"When tokens of an earlier format cease to verify, as FORMAT=TIME (RFC 3339, UTC). A format that is not named verifies as long as its tokens live, at most root_ttl after the last was minted. This release mints m1 and knows no earlier one." reload:"yes"`
	MaxDevices     int           `key:"max_devices" default:"100" doc:"Live devices a user may have. Beyond that number the one that was idle longest goes, those without install_id first." reload:"yes"`
	AuditRetention time.Duration `key:"audit_retention" default:"2160h" doc:"How long audit entries are kept (90 days); 0 keeps all." reload:"yes"`
	HashMemory     int           `key:"hash_memory" default:"19456" doc:"KiB of memory of one argon2id hash; at least 19456 (19 MiB)."`
	HashTime       int           `key:"hash_time" default:"2" doc:"Passes of one argon2id hash; at least 2."`
	HashThreads    int           `key:"hash_threads" default:"1" doc:"Lanes of one argon2id hash."`
	HashPool       int           `key:"hash_pool" default:"2" doc:"Password hashes that run at the same time; each takes hash_memory."`
	HashQueue      int           `key:"hash_queue" default:"32" doc:"Logins that may wait for the pool; more are answered 503 with Retry-After at once."`
	LogLevel       string        `key:"log_level" default:"info" doc:"debug, info, warn or error. At debug each verdict has a line, too." reload:"yes"`

	formatEnds  []service.FormatEnd // AcceptFormats, read
	dev         bool
	credentials string // systemd's directory of credentials; empty when there is none
}

// usageError is the user's mistake: exit code 2.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// loadConfig reads the authority's configuration.
func loadConfig(flags *pflag.FlagSet, environ []string) (*config, error) {
	c := &config{dev: flagBool(flags, "dev"), credentials: variable(environ, credentialsVariable)}
	defaults := map[string]string{}
	if c.dev {
		defaults["data_dir"], defaults["trusted_proxies"] = ".macaroond", "127.0.0.0/8 ::1/128"
	}
	if err := fill(c, flags, environ, defaults); err != nil {
		return nil, err
	}
	return c, c.check()
}

// check refuses what cannot work. What works and is unwise is for `config
// check` to tell.
func (c *config) check() error {
	if _, err := prefixes(c.TrustedProxies); err != nil {
		return usagef("trusted_proxies: %w", err)
	}
	for _, o := range c.CORSOrigins {
		if u, err := url.Parse(o); err != nil || u.Host == "" || u.Scheme+"://"+u.Host != o || strings.Contains(o, "*") {
			return usagef("cors_origins: %q is not scheme://host[:port]", o)
		}
	}
	for _, a := range c.BrowserAud {
		if !plainWord(a) {
			return usagef("browser_audiences: %q is not 1 to 128 printable ASCII characters without space", a)
		}
	}
	for _, f := range c.AcceptFormats {
		end, err := formatEnd(f)
		if err != nil {
			return usagef("accept_formats: %q: %w", f, err)
		}
		c.formatEnds = append(c.formatEnds, end)
	}
	if c.Issuer != "" {
		if u, err := url.Parse(c.Issuer); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || strings.ContainsAny(c.Issuer, "?#") || len(c.Issuer) > 256 {
			return usagef("issuer: not a URL such as https://auth.example.com")
		}
	}
	return allowed([]rule{
		{"listen", !address(c.Listen), "HOST:PORT or unix:PATH"},
		{"metrics_listen", c.MetricsListen != "" && !hostPort(c.MetricsListen), "HOST:PORT"},
		{"metrics_listen", collide(c.Listen, c.MetricsListen), "another address than listen"},
		{"data_dir", c.DataDir == "", "a directory"},
		{"signup", !slices.Contains([]string{"off", "password", "device"}, c.Signup), "off, password or device"},
		{"remote_user", c.RemoteUser != "id" && c.RemoteUser != "username", "id or username"},
		{"log_level", !logLevel(c.LogLevel), "debug, info, warn or error"},
		{"root_ttl", c.RootTTL < time.Minute || c.RootTTL > storage.MaxRootTTL, "1m to 8784h"},
		{"renew_grace", c.RenewGrace < 0 || c.RenewGrace > 24*time.Hour, "0 to 24h"},
		{"session_max", c.SessionMax != 0 && c.SessionMax < time.Minute, "0 (no limit) or at least 1m"},
		{"access_ttl", c.AccessTTL < time.Second || c.AccessTTL > c.RootTTL, "1s to root_ttl"},
		{"max_staleness", c.MaxStaleness < time.Second, "at least 1s"},
		{"authz_origin", !origin(c.AuthzOrigin), "scheme://host[:port]"},
		{"once_max_ttl", c.OnceMaxTTL < 0 || c.OnceMaxTTL > 366*24*time.Hour, "0 (no one-time tokens) to 8784h"},
		{"max_prefix_ttl", c.MaxPrefixTTL < 0, "0 (no prefixes) or more"},
		{"rotate_every", c.RotateEvery != 0 && c.RotateEvery < time.Hour, "0 (never) or at least 1h"},
		{"fresh_login", c.FreshLogin < 0 || c.FreshLogin > 24*time.Hour, "0 to 24h"},
		{"max_devices", c.MaxDevices < 1 || c.MaxDevices > 10_000, "1 to 10000"},
		{"audit_retention", c.AuditRetention < 0, "0 or more"},
		{"hash_memory", c.HashMemory < 19456 || c.HashMemory > 4<<20, "19456 to 4194304"},
		{"hash_time", c.HashTime < 2 || c.HashTime > 100, "2 to 100"},
		{"hash_threads", c.HashThreads < 1 || c.HashThreads > 255, "1 to 255"},
		{"hash_pool", c.HashPool < 1 || c.HashPool > 1024, "1 to 1024"},
		{"hash_queue", c.HashQueue < 0 || c.HashQueue > 100_000, "0 to 100000"},
		{"tls_key_file", (c.TLSCertFile == "") != (c.TLSKeyFile == ""), "given together with tls_cert_file"},
		{"key", c.Key != "" && c.KeyFile != "", "left out when key_file is given"},
		{"audience", !plainWord(c.Audience), "1 to 128 printable ASCII characters without space"},
		{"authz_audience", c.AuthzAudience != "" && !plainWord(c.AuthzAudience), "1 to 128 printable ASCII characters without space"},
	})
}

// formatEnd reads FORMAT=TIME. The format that is minted in has no end: nobody
// could log in.
func formatEnd(text string) (end service.FormatEnd, err error) {
	name, at, ok := strings.Cut(text, "=")
	if !ok {
		return end, errors.New("want FORMAT=TIME, such as m0=2027-01-31T00:00:00Z")
	}
	if end.At, err = time.Parse("2006-01-02T15:04:05Z", at); err != nil {
		return end, errors.New("the time is not as RFC 3339 has it, in UTC: 2027-01-31T00:00:00Z")
	}
	if end.Format, ok = token.FormatNamed(name); !ok {
		return end, fmt.Errorf("this release knows no format %q", name)
	}
	if end.Format == token.Minting {
		return end, fmt.Errorf("%s is the format that is minted in: it has no end", name)
	}
	return end, nil
}

// databasePath is the SQLite file.
func (c *config) databasePath() string { return filepath.Join(c.DataDir, "macaroond.db") }

// systemdCredential is a source of secrets whose mode is systemd's business.
const systemdCredential = "systemd credential"

// keyPath is the file of the key-encryption keys: key_file, a systemd
// credential, or with --dev one in the data directory. source says which; path
// is empty when there is none.
func (c *config) keyPath() (path, source string) {
	if c.KeyFile != "" {
		return c.KeyFile, "key_file"
	}
	if c.credentials != "" {
		path := filepath.Join(c.credentials, "macaroond_key")
		if _, err := os.Stat(path); err == nil {
			return path, systemdCredential
		}
	}
	if c.dev {
		return c.devKeyPath(), "--dev"
	}
	return "", ""
}

// sealingKeys reads the key-encryption keys. source says where they are from.
func (c *config) sealingKeys() (keys *keyring.SealingKeys, source string, err error) {
	text, source := c.Key, "key"
	if text == "" {
		var path string
		if path, source = c.keyPath(); path == "" {
			return nil, "", errNoKey
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, source, usagef("%s: %w", source, err)
		}
		text = string(b)
	}
	if keys, err = keyring.ParseSealingKeys(text); err != nil {
		err = usagef("%s: %w", source, err)
	}
	return keys, source, err
}

func (c *config) devKeyPath() string { return filepath.Join(c.DataDir, "key") }

var errNoKey = usagef(`no key-encryption key is configured: it seals the secrets in the database, and macaroond does not start without one
make one:   (umask 077; macaroond keys new > /etc/macaroond/key)
then give:  key_file: /etc/macaroond/key   (or MACAROOND_KEY_FILE, or a systemd credential named macaroond_key)
to try it out, start with --dev: it makes a key in the data directory`)
