package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/dpop"
	"macaroond/service/guard"
	"macaroond/service/httpapi"
)

func newEdge(e *env) *cobra.Command {
	c := &cobra.Command{
		Use: "edge --authority URL --credential-file F --audience A", Short: "Verify beside a resource server, for its gateway", Args: cobra.NoArgs,
		Long: `Answer a gateway's questions (/authz/…) beside a resource server, as the
authority would, without asking it about each request: its first token makes a
device known, and what is revoked is followed. It keeps nothing on disk.

It starts without the authority and is not ready (/readyz) until it knows what is
revoked. While the authority is away, known devices go on for max_staleness; then
every token is refused with 503, never 401.`,
		Example: `  (umask 077; macaroond service add photos --serves photos --json > photos.json)   # at the authority
  macaroond edge --authority https://auth.example.com --credential-file photos.json --audience photos`,
		RunE: func(c *cobra.Command, _ []string) error { return e.edge(c) },
	}
	f := c.Flags()
	f.String("listen", "", "`address` that gateways ask: HOST:PORT or unix:PATH")
	f.String("authority", "", "`URL` of the authority")
	f.String("credential-file", "", "`file` with the service credential: ID:SECRET, or service add's JSON")
	f.String("audience", "", "the `audience` that tokens must name")
	f.Bool("plain-http", false, "permit http:// to an authority on another machine")
	show := c.HelpFunc()
	c.SetHelpFunc(func(c *cobra.Command, args []string) {
		for _, name := range authoritysFlags {
			c.Flag(name).Hidden = true
		}
		show(c, args)
	})
	return c
}

// authoritysFlags are every other command's: an edge refuses them.
var authoritysFlags = []string{"data-dir", "dev"}

// edge is a running sidecar.
type edge struct {
	front
	env      *env
	cmd      *cobra.Command
	begun    *edgeConfig // what it was started with
	cred     client.Credential
	guard    *guard.Guard
	rights   *rights
	verdicts *prometheus.CounterVec
}

func (e *env) edge(c *cobra.Command) error {
	ctx := c.Context()
	hup, end := beginServing()
	defer end()
	for _, name := range authoritysFlags {
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
	d := &edge{front: newFront(e.Stderr, cfg.LogLevel), env: e, cmd: c, begun: cfg, cred: cred}
	d.verdicts = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "macaroond_edge_verdicts_total", Help: "Verdicts of the sidecar, by code and by where the knowledge came from.",
	}, []string{"code", "how"})
	for _, code := range api.DecisionCodes { // at zero, so that the first of a kind is an increase
		for _, how := range [...]string{guard.Local, guard.Introspected, guard.Online} {
			d.verdicts.WithLabelValues(code, how)
		}
	}
	d.warn(cfg.unsafe())
	if err := d.listen(cfg.Listen); err != nil {
		return err
	}
	defer d.listener.Close()

	// The guard outlives the listener, so that the last requests still find it.
	house, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	d.guard, err = guard.New(house, cfg.guard(cred, d.observe, d.log))
	if err != nil {
		return err
	}
	defer d.guard.Close()
	if err := d.apply(cfg); err != nil {
		return err
	}
	d.rights = &rights{log: d.log}
	var asking sync.WaitGroup
	asking.Go(func() { d.rights.follow(house, d.guard) })
	defer asking.Wait()
	defer stop()
	return d.serve(ctx, serving{
		metricsListen: cfg.MetricsListen, collectors: d.metrics(),
		hup: hup, reload: d.reload,
		announce: func() { fmt.Fprintf(e.Stdout, "macaroond edge listens on %s\n", d.url()) },
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
		TrustedProxies: proxies, AuthzOrigin: cfg.AuthzOrigin, RemoteUser: cfg.RemoteUser, Version: api.Built(version), Log: d.log, Requests: d.counts,
	}, d))
	return nil
}

func (d *edge) reload() {
	next, err := d.env.loadEdge(d.cmd)
	if err == nil {
		err = next.checkEdge()
	}
	var cred client.Credential
	if err == nil {
		cred, err = next.credential()
	}
	if err == nil {
		err = d.apply(next)
	}
	if err != nil {
		d.badReload(err)
		return
	}
	keys := needRestart(d.begun, next)
	// Another one in the same file would go unsaid, and the former be removed.
	if _, source := next.credentialPath(); cred != d.cred && source != "" && !slices.Contains(keys, source) {
		keys = append(keys, source)
	}
	d.reloaded(keys)
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
	maps.Copy(out, d.guard.Ready(ctx))
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
