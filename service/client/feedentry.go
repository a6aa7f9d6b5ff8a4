package client

import (
	"strings"
	"time"

	"macaroond/service/api"
	"macaroond/service/token"
)

// sound holds an entry against what its grain needs.
func sound(r *api.Revocation) error {
	var ok bool
	switch r.Grain {
	case api.GrainDevice:
		ok = id128(r.RootKeyID) && r.Fingerprint == "" && r.Epoch == 0
	case api.GrainBranch:
		ok = id128(r.RootKeyID) && id128(r.Fingerprint) && r.Epoch == 0
	case api.GrainEpoch:
		ok = r.RootKeyID == "" && r.Fingerprint == "" && r.Epoch > 0
	case api.GrainPolicy:
		ok = r.RootKeyID == "" && r.Fingerprint == "" && r.Epoch == 0 &&
			(r.Subject == "" || token.IsID(r.Subject, token.UserPrefix, token.ServicePrefix, token.DevicePrefix))
	default:
		return &UnknownGrainError{r.Seq, r.Grain[:min(64, len(r.Grain))]}
	}
	if !ok || r.ExpiresAt.IsZero() || r.Subject != "" && r.Grain != api.GrainPolicy {
		return errFeed("entry %d does not have what its grain needs", r.Seq)
	}
	return nil
}

// id128 reports 16 bytes in base64url, in their one spelling: a root key ID, or a
// fingerprint, which is written like one.
func id128(s string) bool {
	_, err := token.ParseRootKeyID(s)
	return err == nil
}

// entryAsSent reads an entry from the beginning of s, in the very form in which
// macaroond sends it. Any other form is left to the JSON library, which reads a
// [sound] entry of this form alike (FuzzEntry).
func entryAsSent(s string) (r api.Revocation, rest string, ok bool) {
	if !has(&s, `{"seq":`) {
		return r, s, false
	}
	var n uint64
	if n, s, ok = number(s); !ok {
		return r, s, false
	}
	r.Seq = int64(n)
	if !has(&s, `,"grain":"`) {
		return r, s, false
	}
	switch {
	case has(&s, api.GrainDevice+`","root_key_id":"`):
		r.Grain = api.GrainDevice
		r.RootKeyID, s, ok = plain(s)
	case has(&s, api.GrainBranch+`","root_key_id":"`):
		r.Grain = api.GrainBranch
		r.RootKeyID, s, ok = plain(s)
		if ok = ok && has(&s, `,"fingerprint":"`); ok {
			r.Fingerprint, s, ok = plain(s)
		}
	case has(&s, api.GrainEpoch+`","epoch":`):
		r.Grain = api.GrainEpoch
		n, s, ok = number(s)
		r.Epoch = uint32(n)
		ok = ok && n == uint64(r.Epoch)
	default:
		return r, s, false
	}
	if !ok || !has(&s, `,"expires_at":"`) {
		return r, s, false
	}
	const form = "2006-01-02T15:04:05Z"
	if len(s) < len(form)+2 || s[len(form):len(form)+2] != `"}` {
		return r, s, false
	}
	r.ExpiresAt.Time, ok = instant(s[:len(form)])
	return r, s[len(form)+2:], ok
}

// has cuts the prefix off, if s begins with it.
func has(s *string, prefix string) (ok bool) {
	*s, ok = strings.CutPrefix(*s, prefix)
	return ok
}

// number reads a whole number of at most 18 digits.
func number(s string) (n uint64, rest string, ok bool) {
	i := 0
	for ; i < len(s) && i < 19 && '0' <= s[i] && s[i] <= '9'; i++ {
		n = n*10 + uint64(s[i]-'0')
	}
	if i == 0 || i == 19 || s[0] == '0' && i > 1 {
		return 0, s, false
	}
	return n, s[i:], true
}

// plain cuts off 22 characters and the quotation mark after them. What they are
// is for [sound]: any that are not base64url are refused there, and would be,
// too, as whatever they stand for in JSON, which is then shorter.
func plain(s string) (text, rest string, ok bool) {
	if len(s) < 23 || s[22] != '"' {
		return "", s, false
	}
	return s[:22], s[23:], true
}

// instant reads YYYY-MM-DDThh:mm:ssZ.
func instant(s string) (time.Time, bool) {
	if s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' || s[19] != 'Z' {
		return time.Time{}, false
	}
	var v [6]int
	for i, at := range [...][2]int{{0, 4}, {5, 7}, {8, 10}, {11, 13}, {14, 16}, {17, 19}} {
		for _, c := range []byte(s[at[0]:at[1]]) {
			if c < '0' || c > '9' {
				return time.Time{}, false
			}
			v[i] = v[i]*10 + int(c-'0')
		}
	}
	if v[3] > 23 || v[4] > 59 || v[5] > 59 {
		return time.Time{}, false
	}
	t := time.Date(v[0], time.Month(v[1]), v[2], v[3], v[4], v[5], 0, time.UTC)
	// time.Date takes the 31st of June for the 1st of July.
	_, month, day := t.Date()
	return t, month == time.Month(v[1]) && day == v[2]
}
