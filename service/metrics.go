package service

import (
	"github.com/prometheus/client_golang/prometheus"

	"macaroond/service/api"
	"macaroond/service/token"
)

// Metrics are the service's Prometheus collectors. No label holds anything
// that a client chooses.
type Metrics struct {
	verdicts    map[string]prometheus.Counter // by code, looked up without locks
	verdictsVec *prometheus.CounterVec
	logins      *prometheus.CounterVec
	renewals    *prometheus.CounterVec
	revocations *prometheus.CounterVec
	seen        [][2]prometheus.Counter // by format, and whether an earlier epoch minted it
	seenVec     *prometheus.CounterVec
	clockJumped prometheus.Gauge
	gauges      []prometheus.Collector
}

func newMetrics(s *Service) *Metrics {
	m := &Metrics{
		verdicts:    map[string]prometheus.Counter{},
		verdictsVec: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "macaroond_verdicts_total", Help: "Verdicts, by code."}, []string{"code"}),
		logins:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "macaroond_logins_total", Help: "Logins, sign-ups and recoveries, by outcome."}, []string{"outcome"}),
		renewals:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "macaroond_renewals_total", Help: "Root macaroons presented to be renewed, by outcome: ok, again (the successor given before), theft, limited, refused."}, []string{"outcome"}),
		revocations: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "macaroond_revocations_total", Help: "Revocations made by this process, by grain."}, []string{"grain"}),
		seenVec:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "macaroond_tokens_seen_total", Help: "Tokens accepted, by their format and by whether the epoch that signs minted them or an earlier one."}, []string{"format", "epoch"}),
		clockJumped: prometheus.NewGauge(prometheus.GaugeOpts{Name: "macaroond_clock_jumped", Help: "1 while the wall clock disagrees with the monotonic one, and nothing expires."}),
	}
	// A counter is there, at zero, before anything is counted: one that came with
	// its first event would show no increase over that one.
	for _, code := range api.DecisionCodes {
		m.verdicts[code] = m.verdictsVec.WithLabelValues(code)
	}
	for vec, values := range map[*prometheus.CounterVec][]string{
		m.logins:      {"ok", "refused", "limited", "signup", "recovery", "link", "service", "minted"},
		m.renewals:    {"ok", "again", "theft", "limited", "refused"},
		m.revocations: {api.GrainDevice, api.GrainBranch, api.GrainEpoch},
	} {
		for _, v := range values {
			vec.WithLabelValues(v)
		}
	}
	for f := range token.Format(token.Formats()) {
		m.seen = append(m.seen, [2]prometheus.Counter{m.seenVec.WithLabelValues(f.String(), "signing"), m.seenVec.WithLabelValues(f.String(), "earlier")})
	}
	gauge := func(name, help string, f func() float64) {
		m.gauges = append(m.gauges, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
	}
	gauge("macaroond_revocations_live", "Entries on the revocation list in memory.", func() float64 { return float64(s.list.Len()) })
	gauge("macaroond_revocations_age_seconds", "Time since this node last read the table of revocations to its end; beyond max_staleness every token is refused as stale.",
		func() float64 { return s.now().Sub(s.list.AsOf()).Seconds() })
	gauge("macaroond_revocations_age_bound_seconds", "max_staleness: the stated bound on the age above.", func() float64 { return s.Settings().MaxStaleness.Seconds() })
	gauge("macaroond_hashing_in_progress", "Password hashes in progress.", func() float64 { return float64(len(s.hasher.slots)) })
	gauge("macaroond_hashing_waiting", "Callers inside the hashing pool, those in progress included.", func() float64 { return float64(len(s.hasher.queue)) })
	gauge("macaroond_feed_waiting", "Readers of the feed of revocations that wait for the next one.", func() float64 { return float64(s.feed.waiting.count()) })
	gauge("macaroond_epochs", "Epochs that verify.", func() float64 { return float64(s.keyring.Epochs()) })
	return m
}

// Collectors are all of them, to be registered.
func (m *Metrics) Collectors() []prometheus.Collector {
	return append(m.gauges, m.verdictsVec, m.logins, m.renewals, m.revocations, m.seenVec, m.clockJumped)
}
