package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newConfig(e *env) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Look at the configuration"}
	c.PersistentFlags().Bool("edge", false, "that of macaroond edge")
	load := func(c *cobra.Command) (cfg interface{ unsafe() []string }, err error) {
		if flagBool(c.Flags(), "edge") {
			return e.loadEdge(c)
		}
		return e.load(c)
	}
	check := &cobra.Command{
		Use: "check", Short: "Tell what is wrong or unsafe", Args: cobra.NoArgs,
		Long: `Tell what is wrong in the configuration (exit code 2), or what is unsafe, expired
or missing in it and in the files that it names (exit code 1).`,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := load(c)
			if err != nil {
				return err
			}
			found := cfg.unsafe()
			err = e.print(c, map[string][]string{"unsafe": found}, func(w io.Writer) {
				for _, f := range found {
					fmt.Fprintln(w, "unsafe:", f)
				}
				if len(found) == 0 {
					fmt.Fprintln(w, "nothing unsafe found")
				}
			})
			if err == nil && len(found) > 0 {
				err = errors.New(count(len(found), "unsafe setting"))
			}
			return err
		},
	}
	print := &cobra.Command{
		Use: "print", Short: "Print every key, its value in force and what it is", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := load(c)
			if err != nil {
				return err
			}
			values := map[string]any{}
			var lines strings.Builder
			fields(cfg, func(key string, f reflect.StructField, v reflect.Value) {
				value := shown(f, v)
				values[key] = shown(f, v)
				fmt.Fprintf(&lines, "# %s\n", f.Tag.Get("doc"))
				if list, ok := value.([]string); ok {
					for i := range list {
						list[i] = strconv.Quote(list[i]) // ::1/128 is no plain word of YAML
					}
					fmt.Fprintf(&lines, "%s: [%s]\n", key, strings.Join(list, ", "))
				} else if s, ok := value.(string); ok && f.Type.Kind() == reflect.String {
					fmt.Fprintf(&lines, "%s: %q\n", key, s)
				} else {
					fmt.Fprintf(&lines, "%s: %v\n", key, value)
				}
			})
			return e.print(c, values, func(w io.Writer) { io.WriteString(w, lines.String()) })
		},
	}
	c.AddCommand(check, print)
	return c
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// shown is a value as it may be printed.
func shown(f reflect.StructField, v reflect.Value) any {
	switch x := v.Interface().(type) {
	case time.Duration:
		return x.String()
	case string:
		if f.Tag.Get("secret") != "" && x != "" {
			return "[redacted]"
		}
		return x
	case []string:
		return append([]string{}, x...)
	default:
		return x
	}
}

// unsafe tells what works and is unwise, and what keeps it from starting.
func (c *config) unsafe() []string {
	out := findings{}
	say := out.say
	issuer, _ := url.Parse(c.Issuer)
	say(c.Issuer == "" && !c.dev, "issuer is empty: serve does not start")
	say(issuer != nil && issuer.Scheme == "http" && !loopback(issuer.Host), "issuer is plain http: tokens would cross the network readable by anyone on the way")
	out.addresses(c.Listen, c.TLSCertFile, c.MetricsListen, c.TrustedProxies)
	say(issuer != nil && issuer.Scheme == "https" && c.TLSCertFile == "" && len(c.TrustedProxies) == 0,
		"trusted_proxies is empty behind a gateway (issuer is https, and there is no tls_cert_file): all its clients are one, any of them can use up everybody's attempts to log in, and /authz refuses: give the gateway's address, such as 127.0.0.1/32")
	host := ""
	if issuer != nil && len(c.TrustedProxies) == 0 { // else it is the gateway's certificate that clients see
		host = issuer.Hostname()
	}
	out.certificate(c.TLSCertFile, c.TLSKeyFile, host, time.Now())
	say(c.Key != "", "key is given as a value, and can be read from the process's environment or the configuration file: use key_file")
	for _, o := range c.CORSOrigins {
		say(strings.HasPrefix(o, "http://") && !loopback(strings.TrimPrefix(o, "http://")), "cors_origins %s is plain http", o)
	}
	say(c.Signup == "device", "signup device lets anybody make accounts without a password: limits per address are all that slows them")
	say(c.RootTTL > 90*24*time.Hour, "root_ttl %s is long: revocations are kept for as long", c.RootTTL)
	say(c.RenewGrace < 10*time.Second, "renew_grace %s is short: two processes that renew one root a moment apart would be taken for a thief", c.RenewGrace)
	say(c.RenewGrace > time.Hour, "renew_grace %s is how long a stolen predecessor can be renewed unnoticed", c.RenewGrace)
	say(c.SessionMax != 0 && c.SessionMax < c.RootTTL, "session_max %s is shorter than root_ttl %s: it decides alone, and renewing gives nothing", c.SessionMax, c.RootTTL)
	say(c.MaxStaleness > 10*time.Minute, "max_staleness %s is how long a revoked token may live on while the database cannot be read", c.MaxStaleness)
	if !c.dev {
		_, _, err := c.sealingKeys()
		say(err == errNoKey, "no key-encryption key is configured: serve does not start (make one with macaroond keys new, and give key_file)")
		say(err != nil && err != errNoKey, "there is no key-encryption key: %v", err)
	}
	key, source := c.keyPath()
	out.modes([2]string{source, key}, [2]string{"tls_key_file", c.TLSKeyFile}, [2]string{"data_dir", c.DataDir})
	return out
}

// findings are what works and is unwise.
type findings []string

func (f *findings) say(bad bool, format string, args ...any) {
	if bad {
		*f = append(*f, fmt.Sprintf(format, args...))
	}
}

// addresses looks at who can connect, and who is believed.
func (f *findings) addresses(listen, cert, metrics string, trusted []string) {
	local := loopback(listen) || strings.HasPrefix(listen, "unix:")
	f.say(!local && cert == "", "listen %s takes connections from other machines without TLS: give tls_cert_file, or listen on loopback behind a gateway", listen)
	f.say(metrics != "" && !loopback(metrics), "metrics_listen %s can be reached from other machines, and has no authentication", metrics)
	for _, p := range trusted {
		prefix, _ := netip.ParsePrefix(p)
		f.say(prefix.Bits() == 0, "trusted_proxies %s trusts everybody to say who their client is", p)
	}
}

// certificate looks at whether TLS can begin, and whether clients will go on:
// host is what they call the server, empty when that is not known.
func (f *findings) certificate(certFile, keyFile, host string, now time.Time) {
	if certFile == "" {
		return
	}
	cert, err := loadKeyPair(certFile, keyFile)
	if err != nil {
		f.say(true, "%v", err)
		return
	}
	leaf := cert.Leaf
	f.say(now.After(leaf.NotAfter), "tls_cert_file %s expired on %s", certFile, leaf.NotAfter.Format(time.DateTime))
	f.say(now.Before(leaf.NotBefore), "tls_cert_file %s is good only from %s", certFile, leaf.NotBefore.Format(time.DateTime))
	if host != "" {
		err := leaf.VerifyHostname(host)
		f.say(err != nil, "tls_cert_file %s is not for the issuer: %v", certFile, err)
	}
}

// modes looks at the modes of what is secret: pairs of what it is and its path.
func (f *findings) modes(files ...[2]string) {
	for _, file := range files {
		what, path := file[0], file[1]
		if info, err := os.Stat(path); path != "" && what != systemdCredential && err == nil {
			f.say(info.Mode().Perm()&0o077 != 0, "%s %s can be read by others (mode %#o): chmod go= it", what, path, info.Mode().Perm())
		}
	}
}

func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
