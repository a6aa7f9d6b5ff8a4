package service

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"macaroond/service/token"
	"macaroond/storage"
)

const (
	maxSeen  = 8192 // devices
	maxRoots = 4    // root macaroons of one device
	// touchLimit is how many are written in one transaction, for which whatever else
	// is to be written waits: each may be on pages that nobody has read for long.
	touchLimit = 256
)

// sightings collects what was seen in use, between two writes: devices, and
// the latest root macaroons that their tokens came from. It is bounded: a full
// one asks to be written, and drops what does not fit.
type sightings struct {
	mu      sync.Mutex
	now     map[[16]byte]*sighting
	writing map[[16]byte]*sighting // handed to the store, not yet answered
	full    chan struct{}
}

// sighting is of one root key.
type sighting struct {
	device string
	last   time.Time
	roots  [maxRoots]struct {
		expires int64 // Unix seconds: under one root key it names the root macaroon
		first   time.Time
	}
}

func newSightings() *sightings {
	return &sightings{now: map[[16]byte]*sighting{}, full: make(chan struct{}, 1)}
}

// mark is called only for tokens that were accepted.
func (d *sightings) mark(key token.RootKeyID, who *token.Identity, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.now[key]
	if v == nil {
		if len(d.now) >= maxSeen {
			select {
			case d.full <- struct{}{}:
			default:
			}
			return
		}
		v = &sighting{device: strings.Clone(who.Device)} // the verdict's own texts go with it
		d.now[key] = v
	}
	v.last = at
	expires := who.Expires.Unix()
	oldest := &v.roots[0]
	for i := range v.roots {
		root := &v.roots[i]
		if root.expires == expires {
			return
		}
		if root.expires < oldest.expires {
			oldest = root // an empty one first of all
		}
	}
	if expires > oldest.expires { // of many, the latest matter
		oldest.expires, oldest.first = expires, at
	}
}

// of gives what is not in the table yet about one root key.
func (d *sightings) of(key token.RootKeyID) []storage.Sighting {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []storage.Sighting
	for _, batch := range []map[[16]byte]*sighting{d.writing, d.now} {
		if v := batch[key]; v != nil {
			out = v.appendTo(out, key)
		}
	}
	return out
}

func (v *sighting) appendTo(out []storage.Sighting, key [16]byte) []storage.Sighting {
	for _, root := range v.roots {
		if root.expires != 0 {
			out = append(out, storage.Sighting{
				DeviceID: v.device, RootKeyID: key, ExpiresAt: time.Unix(root.expires, 0), First: root.first, Last: v.last,
			})
		}
	}
	return out
}

// take hands over what is to be written; done is called when it is.
func (d *sightings) take() (batch []storage.Sighting, done func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, v := range d.now {
		batch = v.appendTo(batch, key)
	}
	d.writing, d.now = d.now, make(map[[16]byte]*sighting, len(d.now))
	return batch, func() {
		d.mu.Lock()
		d.writing = nil
		d.mu.Unlock()
	}
}

// saw notes that a token was accepted.
func (s *Service) saw(chain token.Chain, who *token.Identity, at time.Time) {
	s.seen.mark(chain.Identifier().RootKeyID, who, at)
}

// flushSeen has one caller, the house.
func (s *Service) flushSeen(ctx context.Context) {
	batch, done := s.seen.take()
	defer done()
	if len(batch) == 0 {
		return
	}
	for some := range slices.Chunk(batch, touchLimit) {
		if err := s.store.TouchDevices(ctx, some); err != nil {
			s.log.Warn("last-seen times lost", "devices", len(batch), "error", err)
			return
		}
		batch = batch[len(some):]
	}
}
