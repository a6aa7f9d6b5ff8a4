package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"macaroond/service/client"
	"macaroond/service/guard"
)

// edgeConfig is the configuration of a sidecar, told once as config is.
type edgeConfig struct {
	Listen         string        `key:"listen" default:"127.0.0.1:8430" doc:"Address that gateways ask: HOST:PORT, or unix:PATH."`
	MetricsListen  string        `key:"metrics_listen" default:"" doc:"Address of /metrics (Prometheus); empty is off. It has no authentication: keep it private."`
	Authority      string        `key:"authority" default:"" doc:"URL of the authority, such as https://auth.example.com. Needed."`
	PlainHTTP      bool          `key:"plain_http" default:"false" doc:"Permit http:// to an authority on another machine. Anybody on the network between can then read the credential and the tokens."`
	Credential     string        `key:"credential" default:"" secret:"yes" doc:"Service credential that serves the audience, ID:SECRET. Prefer credential_file."`
	CredentialFile string        `key:"credential_file" default:"" doc:"File with the credential, mode 0600: ID:SECRET on one line, or what macaroond service add --json printed. A systemd credential named macaroond_credential is found by itself."`
	Audience       string        `key:"audience" default:"" doc:"The audience that tokens must name. Needed. A gateway's URL may name it, too, and no other."`
	TLSCertFile    string        `key:"tls_cert_file" default:"" doc:"Certificate chain (PEM) for TLS on listen; read again on SIGHUP." reload:"yes"`
	TLSKeyFile     string        `key:"tls_key_file" default:"" doc:"Private key (PEM) for tls_cert_file." reload:"yes"`
	TrustedProxies []string      `key:"trusted_proxies" default:"127.0.0.0/8 ::1/128" doc:"CIDRs of gateways: only they may ask, and their X-Forwarded-For is believed. A Unix socket's peer counts as 127.0.0.1." reload:"yes"`
	AuthzOrigin    string        `key:"authz_origin" default:"" doc:"Origin of what the gateway guards, as clients write it, such as https://api.example.com: what a DPoP proof must name. Empty refuses tokens that are bound to a key." reload:"yes"`
	RemoteUser     string        `key:"remote_user" default:"id" doc:"What the Remote-User header tells a backend: id or username." reload:"yes"`
	MaxStaleness   time.Duration `key:"max_staleness" default:"30s" doc:"How old the list of revocations may be before the authority is asked about each token, and, while it is away, each is refused as stale (503). A revoked token can live on here for that long at most."`
	LogLevel       string        `key:"log_level" default:"info" doc:"debug, info, warn or error. At debug each verdict has a line, too." reload:"yes"`

	credentials string // systemd's directory of credentials; empty when there is none
}

// loadEdge reads a sidecar's configuration.
func (e *env) loadEdge(c *cobra.Command) (*edgeConfig, error) {
	cfg := &edgeConfig{credentials: variable(e.Env, credentialsVariable)}
	if err := fill(cfg, c.Flags(), e.Env, nil); err != nil {
		return nil, err
	}
	return cfg, cfg.check()
}

// leastStaleness is half as much again as the age that the list has before the next
// answer, when all is well: the feed's age is told to the second, and an answer
// that has nothing to say waits for one.
const leastStaleness = 3 * time.Second

// check refuses what cannot work. What is missing is for checkEdge.
func (c *edgeConfig) check() error {
	if _, err := prefixes(c.TrustedProxies); err != nil {
		return usagef("trusted_proxies: %w", err)
	}
	if c.Authority != "" {
		if _, err := client.New(c.Authority, c.clientOptions()); err != nil {
			return usagef("authority: %w (or permit it: --plain-http)", err)
		}
	}
	return allowed([]rule{
		{"listen", !address(c.Listen), "HOST:PORT or unix:PATH"},
		{"metrics_listen", c.MetricsListen != "" && !hostPort(c.MetricsListen), "HOST:PORT"},
		{"metrics_listen", collide(c.Listen, c.MetricsListen), "another address than listen"},
		{"audience", c.Audience != "" && !plainWord(c.Audience), "1 to 128 printable ASCII characters without space"},
		{"authz_origin", !origin(c.AuthzOrigin), "scheme://host[:port]"},
		{"credential", c.Credential != "" && c.CredentialFile != "", "left out when credential_file is given"},
		{"tls_key_file", (c.TLSCertFile == "") != (c.TLSKeyFile == ""), "given together with tls_cert_file"},
		{"remote_user", c.RemoteUser != "id" && c.RemoteUser != "username", "id or username"},
		{"max_staleness", c.MaxStaleness < leastStaleness, "at least 3s"},
		{"log_level", !logLevel(c.LogLevel), "debug, info, warn or error"},
	})
}

// unsafe tells what works and is unwise, and what keeps it from starting.
func (c *edgeConfig) unsafe() []string {
	out := findings{}
	out.say(c.Authority == "", "authority is empty: edge does not start")
	out.say(c.Audience == "", "audience is empty: edge does not start")
	_, err := c.credential()
	out.say(err != nil, "there is no credential: %v", err)
	out.say(c.PlainHTTP, "plain_http: whoever is on the way to the authority reads the credential and tokens")
	out.say(c.Credential != "", "credential is given as a value, and can be read from the process's environment or the configuration file: use credential_file")
	out.say(c.MaxStaleness > 10*time.Minute, "max_staleness %s is how long a revoked token may live on while the authority is away", c.MaxStaleness)
	out.addresses(c.Listen, c.TLSCertFile, c.MetricsListen, c.TrustedProxies)
	out.certificate(c.TLSCertFile, c.TLSKeyFile, "", time.Now())
	path, source := c.credentialPath()
	out.modes([2]string{source, path}, [2]string{"tls_key_file", c.TLSKeyFile})
	return out
}

// checkEdge refuses what only a running sidecar cannot work with.
func (c *edgeConfig) checkEdge() error {
	switch {
	case c.Authority == "":
		return usagef("which authority? give --authority URL, such as https://auth.example.com")
	case c.Audience == "":
		return usagef("which audience? give --audience A, the name that tokens for this resource server have")
	}
	return nil
}

// guard is the verifier's part of the configuration.
func (c *edgeConfig) guard(cred client.Credential, observe func(guard.Observation), log *slog.Logger) guard.Options {
	return guard.Options{
		Authority: c.Authority, Credential: cred, Audience: c.Audience, MaxStaleness: c.MaxStaleness,
		Client: c.clientOptions(), Observe: observe, Log: log,
	}
}

func (c *edgeConfig) clientOptions() client.Options {
	return client.Options{PlainHTTP: c.PlainHTTP, UserAgent: "macaroond-edge", Timeout: 5 * time.Second}
}

// credentialPath is the file of the credential, and where its name is from.
func (c *edgeConfig) credentialPath() (path, source string) {
	if c.CredentialFile != "" {
		return c.CredentialFile, "credential_file"
	}
	if c.credentials != "" {
		path := filepath.Join(c.credentials, "macaroond_credential")
		if _, err := os.Stat(path); err == nil {
			return path, systemdCredential
		}
	}
	return "", ""
}

func (c *edgeConfig) credential() (client.Credential, error) {
	text, source := c.Credential, "credential"
	if text == "" {
		var path string
		if path, source = c.credentialPath(); path == "" {
			return client.Credential{}, usagef("no service credential is configured; at the authority: macaroond service add NAME --serves A --json > FILE\nthen give:  --credential-file FILE   (or a systemd credential named macaroond_credential)")
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return client.Credential{}, usagef("%s: %w", source, err)
		}
		text = string(b)
	}
	cred, err := client.ParseCredential(text)
	if err != nil {
		err = usagef("%s: %w", source, err)
	}
	return cred, err
}
