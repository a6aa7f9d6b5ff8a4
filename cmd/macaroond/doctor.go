package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"macaroond/service/keyring"
	"macaroond/storage"
	"macaroond/storage/sqlite"
)

// finding is one line of doctor's report.
type finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

func newDoctor(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Check configuration, files, database, keys and the running server", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := e.load(c)
			if err != nil {
				return err
			}
			found := e.diagnose(c.Context(), cfg)
			bad := 0
			for _, f := range found {
				if !f.OK {
					bad++
				}
			}
			err = e.print(c, found, func(w io.Writer) {
				for _, f := range found {
					mark := "ok  "
					if !f.OK {
						mark = "BAD "
					}
					fmt.Fprintf(w, "%s %-12s %s\n", mark, f.Check, f.Detail)
				}
			})
			if err == nil && bad > 0 {
				err = fmt.Errorf("%d of %d checks are bad", bad, len(found))
			}
			return err
		},
	}
}

func (e *env) diagnose(ctx context.Context, cfg *config) []finding {
	var out []finding
	add := func(check string, err error, format string, args ...any) {
		f := finding{check, err == nil, fmt.Sprintf(format, args...)}
		if err != nil {
			f.Detail = said(err)
		}
		out = append(out, f)
	}
	unsafe := cfg.unsafe()
	var err error
	if len(unsafe) > 0 {
		err = errors.New(strings.Join(unsafe, "; "))
	}
	add("config", err, "nothing unsafe found")

	var disk syscall.Statfs_t
	err = syscall.Statfs(cfg.DataDir, &disk)
	free := disk.Bavail * uint64(disk.Bsize)
	if err != nil {
		err = fmt.Errorf("%s: %w", cfg.DataDir, err)
	} else if free < 100<<20 {
		err = fmt.Errorf("%d MiB left where %s is: logins and revocations fail when it is full", free>>20, cfg.DataDir)
	}
	add("disk", err, "%d MiB free", free>>20)

	st, done, err := e.store(ctx, cfg)
	if err != nil {
		add("database", err, "")
	} else {
		defer done()
		add("database", writes(ctx, cfg), "%s opens, and can be written", cfg.databasePath())
		e.diagnoseStore(ctx, cfg, st, add)
	}
	add("server", askReady(ctx, cfg), "answers on %s and is ready", cfg.Listen)
	add("leak scanner", nil, "tokens match %s", leakPattern(cfg.Issuer))
	add("leak scanner", nil, "tokens in the JSON form match %s", leakPatternJSON)
	add("leak scanner", nil, "service secrets match mds_[A-Za-z0-9_-]{43}")
	return out
}

// writes opens the database as a server does, which must be able to write it.
func writes(ctx context.Context, cfg *config) error {
	st, err := sqlite.Open(ctx, cfg.databasePath(), sqlite.Options{})
	if err != nil {
		return err
	}
	return st.Close()
}

func (e *env) diagnoseStore(ctx context.Context, cfg *config, st storage.Store, add func(string, error, string, ...any)) {
	err := e.working("checking the database", func() error { return st.Check(ctx) })
	add("soundness", err, "the database is sound")
	state, err := st.State(ctx)
	add("feed", err, "generation %s, sequence %d", state.Generation, state.Sequence)
	services, err := st.Services(ctx)
	if err == nil {
		err = servesItself(services, cfg.Audience)
	}
	add("services", err, "%d credentials, none serves the authority's own audience", len(services))
	keys, source, err := cfg.sealingKeys()
	ring := keyring.New(keys)
	if err == nil {
		var epochs []storage.Epoch
		if epochs, err = st.Epochs(ctx); err == nil {
			err = ring.Load(epochs)
		}
	}
	if err != nil {
		add("keys", err, "")
		return
	}
	add("keys", nil, "from %s; they open all of %d epochs, epoch %d signs", source, ring.Epochs(), ring.Signing())
}

// servesItself names the credentials that serve the authority's own audience:
// they were made under another one, and get nothing for it.
func servesItself(services []storage.Service, own string) error {
	var names []string
	for _, s := range services {
		if slices.Contains(s.Serves, own) {
			names = append(names, s.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("%s: made to serve %q, which is the authority's own audience, and so is refused", strings.Join(names, ", "), own)
}

// askReady asks the running server's /readyz, where this configuration says that
// it listens, whoever answers at the issuer's URL; it is called by the issuer's
// name, for that is what its certificate has.
func askReady(ctx context.Context, cfg *config) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	network, addr := "tcp", cfg.Listen
	if path, ok := strings.CutPrefix(cfg.Listen, "unix:"); ok {
		network, addr = "unix", path
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}, DisableKeepAlives: true}}
	target := url.URL{Scheme: "http", Host: "localhost", Path: "/readyz"}
	if cfg.TLSCertFile != "" {
		target.Scheme = "https"
	}
	if issuer, err := url.Parse(cfg.Issuer); err == nil && issuer.Host != "" {
		target.Host = issuer.Host
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("a server answers on %s, but its certificate is not good here: %w", cfg.Listen, e.Err)
	}
	if err != nil {
		return fmt.Errorf("no server answers on %s: start it with macaroond serve, or give the configuration that it runs with (%w)", cfg.Listen, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return fmt.Errorf("the server is not ready: %s", strings.TrimSpace(string(b)))
	}
	return nil
}

// leakPatternJSON is for tokens as js-macaroon sends them: it writes {"v":2,"s64":
// first, whosever they are.
const leakPatternJSON = "eyJ2IjoyLCJzNjQiOi[A-Za-z0-9_-]{200,}"

// leakPattern is a regular expression for this authority's tokens. A token
// begins with the version and the location, so its first characters are known. Of
// its length there is no bound above, for RE2, which many scanners have, counts to
// a thousand only.
func leakPattern(issuer string) string {
	if issuer == "" {
		return "AgE[A-Za-z0-9_-]{150,}"
	}
	head := append([]byte{2, 1}, lengthOf(issuer)...)
	head = append(head, issuer...)
	known := head[:len(head)/3*3] // whole groups of three bytes are whole characters
	return regexp.QuoteMeta(base64.RawURLEncoding.EncodeToString(known)) + "[A-Za-z0-9_-]{100,}"
}

func lengthOf(s string) []byte {
	if len(s) < 0x80 {
		return []byte{byte(len(s))}
	}
	return []byte{byte(len(s)) | 0x80, byte(len(s) >> 7)}
}
