package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/dpop"
	"macaroond/service/guard"
	"macaroond/service/httpapi"
	"macaroond/service/token"
)

// edgeConfig is the configuration of a sidecar, told once as config is.
type edgeConfig struct {
	Listen         string        `key:"listen" default:"127.0.0.1:8430" doc:"Address that gateways ask: HOST:PORT, or unix:PATH."`
	MetricsListen  string        `key:"metrics_listen" default:"" doc:"Address of /metrics (Prometheus); empty is off. It has no authentication: keep it private."`
	Authority      string        `key:"authority" default:"" doc:"URL of the authority, such as https://auth.example.com. Needed."`
	PlainHTTP      bool          `key:"plain_http" default:"false" doc:"Permit http:// to an authority on another machine. Whoever is on the way reads the credential and tokens."`
	Credential     string        `key:"credential" default:"" secret:"yes" doc:"Service credential that serves the audience, ID:SECRET. Prefer credential_file."`
	CredentialFile string        `key:"credential_file" default:"" doc:"File with the credential, mode 0600: ID:SECRET on one line, or what macaroond service add --json printed. A systemd credential named macaroond_credential is found by itself."`
	Audience       string        `key:"audience" default:"" doc:"The audience that tokens must name. Needed. A gateway's URL may name it, too, and no other."`
	TLSCertFile    string        `key:"tls_cert_file" default:"" doc:"Certificate chain (PEM) for TLS on listen; read again on SIGHUP." reload:"yes"`
	TLSKeyFile     string        `key:"tls_key_file" default:"" doc:"Private key (PEM) for tls_cert_file." reload:"yes"`
	TrustedProxies []string      `key:"trusted_proxies" default:"127.0.0.0/8 ::1/128" doc:"CIDRs of gateways: only they may ask, and their X-Forwarded-For is believed. A Unix socket's peer counts as 127.0.0.1." reload:"yes"`
	AuthzOrigin    string        `key:"authz_origin" default:"" doc:"Origin of what the gateway guards, as clients write it, such as https://api.example.com: what a DPoP proof must name. Empty refuses tokens that are bound to a key." reload:"yes"`
	RemoteUser     string        `key:"remote_user" default:"id" doc:"What the Remote-User header tells a backend: id or username." reload:"yes"`
	MaxStaleness   time.Duration `key:"max_staleness" default:"30s" doc:"How old the list of revocations may be before the authority is asked about each token, and, while it is away, each is refused as stale (503). So long a revoked token may live on here at most."`
	LogLevel       string        `key:"log_level" default:"info" doc:"debug, info, warn or error. At debug each verdict has a line, too." reload:"yes"`

	credentials string // systemd's directory of credentials; empty when there is none
}

func newEdge(e *env) *cobra.Command {
	c := &cobra.Command{
		Use: "edge --authority URL --credential-file F --audience A", Short: "Verify beside a resource server, for its gateway", Args: cobra.NoArgs,
		Long: `Answer a gateway's questions (/authz/…) beside a resource server, as the
authority would, without asking it about each request: its first token makes a
device known, and what is revoked is followed. It keeps nothing on disk.

It starts without the authority and is not ready (/readyz) until it knows what is
revoked. While the authority is away, known devices go on for max_staleness; then
every token is refused with 503, never 401.`,
		Example: `  macaroond service add photos --serves photos --json > photos.json   # at the authority
  macaroond edge --authority https://auth.example.com --credential-file photos.json --audience photos`,
		RunE: func(c *cobra.Command, _ []string) error { return e.edge(c) },
	}
	f := c.Flags()
	f.String("listen", "", "`address` that gateways ask: HOST:PORT or unix:PATH")
	f.String("authority", "", "`URL` of the authority")
	f.String("credential-file", "", "`file` with the service credential: ID:SECRET, or service add's JSON")
	f.String("audience", "", "the `audience` that tokens must name")
	f.Bool("plain-http", false, "permit http:// to an authority on another machine")
	return c
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
		if _, err := c.client(); err != nil {
			return err
		}
	}
	return allowed([]rule{
		{"listen", !address(c.Listen), "HOST:PORT or unix:PATH"},
		{"metrics_listen", c.MetricsListen != "" && !hostPort(c.MetricsListen), "HOST:PORT"},
		{"audience", c.Audience != "" && !plainWord(c.Audience), "1 to 128 printable ASCII characters without space"},
		{"authz_origin", !origin(c.AuthzOrigin), "scheme://host[:port]"},
		{"credential", c.Credential != "" && c.CredentialFile != "", "not given together with credential_file"},
		{"tls_key_file", (c.TLSCertFile == "") != (c.TLSKeyFile == ""), "given together with tls_cert_file"},
		{"remote_user", c.RemoteUser != "id" && c.RemoteUser != "username", "id or username"},
		{"max_staleness", c.MaxStaleness < leastStaleness, "at least 3s"},
		{"log_level", !logLevel(c.LogLevel), "debug, info, warn or error"},
	})
}

// unsafe tells what works and is unwise, and what is missing.
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

func (c *edgeConfig) clientOptions() client.Options {
	return client.Options{PlainHTTP: c.PlainHTTP, UserAgent: "macaroond-edge", Timeout: 5 * time.Second}
}

func (c *edgeConfig) client() (*client.Client, error) {
	cl, err := client.New(c.Authority, c.clientOptions())
	if err != nil {
		return nil, usagef("authority: %w (or permit it: --plain-http)", err)
	}
	return cl, nil
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
	id, secret, ok := splitCredential(strings.TrimSpace(text))
	if !ok { // and nothing of it is shown
		return client.Credential{}, usagef("%s: not a service credential: want ID:SECRET on one line, or what macaroond service add --json prints", source)
	}
	return client.Basic(id, secret), nil
}

func splitCredential(text string) (id, secret string, ok bool) {
	if strings.HasPrefix(text, "{") {
		var in api.Service
		if json.Unmarshal([]byte(text), &in) != nil {
			return "", "", false
		}
		id, secret = in.ID, in.Secret
	} else {
		id, secret, _ = strings.Cut(text, ":")
	}
	return id, secret, token.IsID(id, token.ServicePrefix) && plainWord(secret)
}

// edge is a running sidecar.
type edge struct {
	front
	env      *env
	cmd      *cobra.Command
	begun    *edgeConfig // what it was started with
	guard    *guard.Guard
	rights   *rights
	verdicts *prometheus.CounterVec
}

func (e *env) edge(c *cobra.Command) error {
	ctx := c.Context()
	hup, end := beginServing()
	defer end()
	for _, name := range []string{"data-dir", "dev"} {
		if c.Flags().Changed(name) {
			return usagef("--%s is the authority's: an edge has nothing on disk", name)
		}
	}
	cfg, err := e.loadEdge(c)
	if err == nil {
		err = cfg.checkEdge()
	}
	if err != nil {
		return err
	}
	cred, err := cfg.credential()
	if err != nil {
		return err
	}
	cl, err := cfg.client()
	if err != nil {
		return err
	}
	d := &edge{front: newFront(e.Stderr, cfg.LogLevel), env: e, cmd: c, begun: cfg}
	d.verdicts = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "macaroond_edge_verdicts_total", Help: "Verdicts of the sidecar, by code and by where the knowledge came from.",
	}, []string{"code", "how"})
	for _, finding := range cfg.unsafe() {
		d.log.Warn("unsafe: " + finding)
	}
	if err := d.listen(cfg.Listen); err != nil {
		return err
	}
	defer d.listener.Close()

	// The guard outlives the listener, so that the last requests still find it.
	house, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	d.guard, err = guard.New(house, guard.Options{
		Authority: cfg.Authority, Credential: cred, Audience: cfg.Audience, MaxStaleness: cfg.MaxStaleness,
		Client: cfg.clientOptions(), Observe: d.observe, Log: d.log,
	})
	if err != nil {
		return err
	}
	defer d.guard.Close()
	if err := d.apply(cfg); err != nil {
		return err
	}
	d.rights = &rights{audience: cfg.Audience, log: d.log}
	var asking sync.WaitGroup
	asking.Go(func() { d.rights.follow(house, cl, cred) })
	defer asking.Wait()
	defer stop()
	return d.serve(ctx, serving{
		metricsListen: cfg.MetricsListen, collectors: d.metrics(),
		hup: hup, reload: d.reload,
		announce: func() error {
			_, err := fmt.Fprintf(e.Stdout, "macaroond edge listens on %s\n", d.url())
			return err
		},
	})
}

// apply puts in force what a reload can change.
func (d *edge) apply(cfg *edgeConfig) error {
	proxies, err := prefixes(cfg.TrustedProxies)
	if err != nil {
		return err
	}
	if err := d.loadCertificate(cfg.TLSCertFile, cfg.TLSKeyFile); err != nil {
		return err
	}
	d.setLevel(cfg.LogLevel)
	d.swap.Set(httpapi.NewEdge(httpapi.Config{
		TrustedProxies: proxies, AuthzOrigin: cfg.AuthzOrigin, RemoteUser: cfg.RemoteUser, Version: versionOf(), Log: d.log, Requests: d.counts,
	}, d))
	return nil
}

func (d *edge) reload() {
	next, err := d.env.loadEdge(d.cmd)
	if err == nil {
		err = next.checkEdge()
	}
	if err == nil {
		err = d.apply(next)
	}
	if err != nil {
		d.badReload(err)
		return
	}
	d.reloaded(needRestart(d.begun, next))
}

// Gateway judges; see [guard.Guard.Gateway]. As long as the authority has not
// said that the credential serves the audience, a token that it calls inactive
// may be a good one, and a client must not be told otherwise.
func (d *edge) Gateway(ctx context.Context, text string, facts caveats.Request, shown *dpop.Presented) (*api.Pass, error) {
	if !d.rights.confirmed.Load() {
		d.observe(guard.Observation{Code: api.CodeStale, How: guard.Local})
		return nil, &api.Refusal{Code: api.CodeStale, Reason: "the verifier cannot know: the authority has not confirmed its credential"}
	}
	return d.guard.Gateway(ctx, text, facts, shown)
}

// Ready says what keeps the sidecar from judging by itself.
func (d *edge) Ready(ctx context.Context) map[string]string {
	out := map[string]string{}
	for name, why := range d.guard.Ready(ctx) {
		out[name] = why
	}
	if why := d.rights.trouble.Load(); why != nil {
		out["credential"] = *why
	} else if !d.rights.confirmed.Load() {
		out["credential"] = "the authority has not confirmed it yet"
	}
	return out
}

func (d *edge) observe(o guard.Observation) { d.verdicts.WithLabelValues(o.Code, o.How).Inc() }

func (d *edge) metrics() []prometheus.Collector {
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	return []prometheus.Collector{
		d.verdicts,
		gauge("macaroond_edge_revocations_age_seconds", "How old the sidecar's list of revocations is; beyond max_staleness the authority is asked about each token.",
			func() float64 { return d.guard.Staleness().Seconds() }),
		gauge("macaroond_edge_revocations_age_bound_seconds", "max_staleness: the stated bound on the age above.",
			func() float64 { return d.begun.MaxStaleness.Seconds() }),
		gauge("macaroond_edge_revocations_live", "Entries on the sidecar's list of revocations.", func() float64 { return float64(d.guard.Revocations()) }),
		gauge("macaroond_edge_prefixes", "Devices whose tokens the sidecar can verify by itself, about.", func() float64 { return float64(d.guard.Prefixes()) }),
	}
}

// rights is what the authority says of the credential: any service may follow
// the feed, and to one that does not serve the audience every token is inactive,
// so neither would show that the configuration is wrong.
type rights struct {
	audience  string
	log       *slog.Logger
	confirmed atomic.Bool            // the authority has said that it serves the audience; what it serves never changes
	trouble   atomic.Pointer[string] // what it said last, when that was no
}

const (
	askRights      = time.Second // until the authority has answered
	askRightsAgain = time.Minute
)

// follow asks until ctx ends.
func (r *rights) follow(ctx context.Context, c *client.Client, cred client.Credential) {
	for {
		again := askRightsAgain
		why, answered := r.ask(ctx, c, cred)
		switch {
		case !answered && !r.confirmed.Load():
			again = askRights // the guard logs why, from the feed
		case !answered:
		case why == "":
			r.confirmed.Store(true)
			r.trouble.Store(nil)
		default:
			r.log.Error("the credential cannot be used: " + why)
			r.trouble.Store(&why)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(again):
		}
	}
}

// ask has a text judged that is no token, for what is said of the asker.
func (r *rights) ask(ctx context.Context, c *client.Client, cred client.Credential) (trouble string, answered bool) {
	_, err := c.Verify(ctx, cred, api.VerifyIn{Token: "AA", Request: api.Request{Audience: r.audience}})
	if err == nil {
		return "", true
	}
	p, ok := errors.AsType[*api.Problem](err)
	switch {
	case ok && p.Status == http.StatusUnauthorized:
		return "the authority does not know it, or not any more: make another with macaroond service add NAME --serves " + r.audience + " --json, and start again with it", true
	case ok && p.Status == http.StatusForbidden:
		return "it does not serve the audience " + r.audience + ": make one that does with macaroond service add NAME --serves " + r.audience + " --json, and start again with it", true
	}
	return "", false
}
