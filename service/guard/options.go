package guard

import (
	"cmp"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"time"

	"macaroond/caveats"
	"macaroond/service/client"
)

// Options say what a guard guards. Authority, Credential and Audience are
// needed; the zero value of everything else is good.
type Options struct {
	Authority  string            // its URL, such as https://auth.example.com
	Credential client.Credential // a service's that serves Audience
	Audience   string            // this server's own name

	// Language has the server's own x- caveats (caveats.NewLanguage). Others
	// refuse them.
	Language caveats.Language
	// MaxStaleness is how old the list of revocations may be before the
	// authority is asked about each token, whose own bound then counts; 0 is 30
	// seconds. Below 3 seconds it is asked now and then though all is well.
	MaxStaleness time.Duration
	// Facts adds what this server knows of a request to what HTTP says: Actions,
	// Extra, and the ClientIP if it is not the connection's peer. It must not
	// touch the body.
	Facts func(*http.Request, *caveats.Request)
	// URL is what the client asked for, as it wrote it: what a DPoP proof must
	// name. nil: https when the connection has TLS and http otherwise, the Host
	// header, and the path. A server behind a proxy that ends TLS or rewrites
	// paths says it here. The query does not count.
	URL func(*http.Request) string
	// MaxBody is how many bytes of a body are read for a body-sha256 caveat; a
	// longer one is refused (413). 0 is 64 KiB.
	MaxBody int64

	// Introspections a second that all clients together may cause, and one
	// client's address (IPv6: its /64); 0 is 1,000 and 50, math.Inf(1) no limit. A
	// device costs one an hour, a forged token one each ten seconds.
	Introspections, IntrospectionsPerClient float64
	// Prefixes is how many devices' prefixes are kept; 0 is 100,000, at up to
	// some 3 KiB each.
	Prefixes int

	Client  client.Options    // how the authority is reached
	Observe func(Observation) // is told of every verdict; for metrics
	Log     *slog.Logger      // says why the authority cannot be asked, which no answer does; nil: slog.Default()
	Now     func() time.Time  // nil: time.Now
}

func (o *Options) check() error {
	if _, err := caveats.Audience(o.Audience); err != nil {
		return errors.New("guard: the audience is 1 to 128 printable ASCII characters without space")
	}
	if o.Credential == (client.Credential{}) {
		return errors.New("guard: a service credential is needed: macaroond service add NAME --serves " + o.Audience)
	}
	if asked := min(o.Introspections, o.IntrospectionsPerClient); asked < 0 || math.IsNaN(asked) || min(int64(o.MaxStaleness), int64(o.Prefixes), o.MaxBody) < 0 {
		return errors.New("guard: an option is negative, or no number")
	}
	return nil
}

// withDefaults is o with what its comments say of zero.
func (o Options) withDefaults() Options {
	o.MaxStaleness = cmp.Or(o.MaxStaleness, 30*time.Second)
	o.Client.Timeout = cmp.Or(o.Client.Timeout, askTimeout)
	o.MaxBody = min(cmp.Or(o.MaxBody, 64<<10), math.MaxInt64-1) // one more is read
	o.Introspections = cmp.Or(o.Introspections, 1000)
	o.IntrospectionsPerClient = cmp.Or(o.IntrospectionsPerClient, 50)
	o.Prefixes = cmp.Or(o.Prefixes, 100_000)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Observe == nil {
		o.Observe = func(Observation) {}
	}
	return o
}

// Observation is one verdict, for metrics. It holds nothing that a client chose.
type Observation struct {
	Code string // a decision's code, or rate_limited, busy
	How  string // where the knowledge came from: Local, Introspected, Online
}

// Where a verdict's knowledge came from.
const (
	Local        = "local"        // a prefix, or a token that is known: nobody was asked
	Introspected = "introspected" // the authority was asked what it knows of the token
	Online       = "online"       // the authority judged
)
