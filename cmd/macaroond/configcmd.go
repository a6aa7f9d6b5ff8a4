package main

import (
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
	check := &cobra.Command{
		Use: "check", Short: "Tell what is wrong or unsafe", Args: cobra.NoArgs,
		Long: "Tell what is wrong (exit code 2) or unsafe (exit code 1) in the configuration.",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := e.load(c)
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
				err = fmt.Errorf("%d unsafe settings", len(found))
			}
			return err
		},
	}
	print := &cobra.Command{
		Use: "print", Short: "Print every key, its value in force and what it is", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := e.load(c)
			if err != nil {
				return err
			}
			values := map[string]any{}
			var lines strings.Builder
			cfg.fields(func(key string, f reflect.StructField, v reflect.Value) {
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

// unsafe tells what works and is unwise.
func (c *config) unsafe() []string {
	out := []string{}
	say := func(bad bool, format string, args ...any) {
		if bad {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	issuer, _ := url.Parse(c.Issuer)
	local := loopback(c.Listen) || strings.HasPrefix(c.Listen, "unix:")
	say(c.Issuer == "" && !c.dev, "issuer is empty: serve does not start")
	say(issuer != nil && issuer.Scheme == "http" && !loopback(issuer.Host), "issuer is plain http: tokens would cross the network readable by anyone on the way")
	say(!local && c.TLSCertFile == "", "listen %s takes connections from other machines without TLS: give tls_cert_file, or listen on loopback behind a gateway", c.Listen)
	say(c.MetricsListen != "" && !loopback(c.MetricsListen), "metrics_listen %s can be reached from other machines, and has no authentication", c.MetricsListen)
	say(c.Key != "", "key is given as a value, and can be read from the process's environment or the configuration file: use key_file")
	for _, p := range c.TrustedProxies {
		prefix, _ := netip.ParsePrefix(p)
		say(prefix.Bits() == 0, "trusted_proxies %s trusts everybody to say who their client is", p)
	}
	for _, o := range c.CORSOrigins {
		say(strings.HasPrefix(o, "http://") && !loopback(strings.TrimPrefix(o, "http://")), "cors_origins %s is plain http", o)
	}
	say(c.Signup == "device", "signup device lets anybody make accounts without a password: limits per address are all that slows them")
	say(c.RootTTL > 90*24*time.Hour, "root_ttl %s is long: revocations are kept for as long", c.RootTTL)
	say(c.MaxStaleness > 10*time.Minute, "max_staleness %s is how long a revoked token may live on while the database cannot be read", c.MaxStaleness)
	if !c.dev {
		_, _, err := c.sealingKeys()
		say(err == errNoKey, "no key-encryption key is configured: serve does not start (make one with macaroond keys new, and give key_file)")
		say(err != nil && err != errNoKey, "there is no key-encryption key: %v", err)
	}
	key, source := c.keyPath()
	for _, f := range [...]struct{ what, path string }{
		{source, key}, {"tls_key_file", c.TLSKeyFile}, {"data_dir", c.DataDir},
	} {
		if info, err := os.Stat(f.path); f.path != "" && f.what != "systemd credential" && err == nil {
			say(info.Mode().Perm()&0o077 != 0, "%s %s can be read by others (mode %#o): chmod go= it", f.what, f.path, info.Mode().Perm())
		}
	}
	return out
}

func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
