package service

import (
	"context"
	"encoding/hex"
	"net/netip"
	"time"

	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/storage"
)

// Audit event types: stable words.
const (
	EventEpochCreated   = "epoch_created"
	EventEpochRetired   = "epoch_retired"
	EventKeysResealed   = "keys_resealed"
	EventRestored       = "restored"
	EventSignup         = "signup"
	EventUserAdded      = "user_added"
	EventUserSuspended  = "user_suspended"
	EventUserResumed    = "user_resumed"
	EventPasswordSet    = "password_set"
	EventRehashed       = "password_rehashed"
	EventLogin          = "login"
	EventLoginFailed    = "login_failed"
	EventRecovered      = "recovered"
	EventRecoveryFailed = "recovery_failed"
	EventProofFailed    = "proof_failed"
	EventCodesReplaced  = "recovery_codes_replaced"
	EventActDelayed     = "act_delayed"
	EventActCancelled   = "act_cancelled"
	EventLinkOpened     = "link_opened"
	EventLinkFailed     = "link_failed"
	EventLinkClaimed    = "link_claimed"
	EventLinkApproved   = "link_approved"
	EventLinkClosed     = "link_closed"
	EventLinked         = "linked"
	EventRoleSet        = "role_set"
	EventUserDeleted    = "user_deleted"
	EventDeviceRenamed  = "device_renamed"
	EventDeviceRevoked  = "device_revoked"
	EventRenewed        = "renewed"
	EventRenewalTheft   = "renewal_theft"
	EventBranchRevoked  = "branch_revoked"
	EventServiceAdded   = "service_added"
	EventServiceRemoved = "service_removed"
	EventServiceRefused = "service_refused"
	EventAdminRefused   = "admin_refused"
	EventPolicyAdded    = "policy_added"
	EventPolicyRemoved  = "policy_removed"

	EventServiceSecretAdded   = "service_secret_added"
	EventServiceSecretRemoved = "service_secret_removed"
	EventServiceToken         = "service_token"
	EventMinted               = "minted"

	EventBackup = "backup"
)

// ActorOperator is whoever runs commands on the server.
const ActorOperator = "operator"

// Source is where a request came from, for the audit and for limits. The zero
// value is a command on the server.
type Source struct{ ClientIP netip.Addr }

// address is the text for the audit; empty when there is none.
func (s Source) address() string {
	if !s.ClientIP.IsValid() {
		return ""
	}
	return s.ClientIP.String()
}

func (s *Service) event(kind string, actor string, src Source) storage.Event {
	return storage.Event{Time: s.now(), Type: kind, Actor: actor, ClientIP: src.address()}
}

// eventAbout is an event that somebody causes about a user or a service.
func (s *Service) eventAbout(kind, actor, user string, src Source) storage.Event {
	ev := s.event(kind, actor, src)
	ev.UserID = user
	return ev
}

// eventOf is an event that a user or a service causes about itself.
func (s *Service) eventOf(kind, user string, src Source) storage.Event {
	return s.eventAbout(kind, user, user, src)
}

// eventBy is an event that a caller causes about themselves, with their device.
func (s *Service) eventBy(kind string, c *Caller, src Source) storage.Event {
	ev := s.eventOf(kind, c.User, src)
	ev.DeviceID = c.Device
	return ev
}

// note writes an event that belongs to no other change. A failure is logged:
// what was refused stays refused.
func (s *Service) note(ctx context.Context, ev storage.Event) {
	if err := s.store.AppendAudit(context.WithoutCancel(ctx), ev); err != nil {
		s.log.Error("audit entry lost", "type", ev.Type, "error", err)
	}
}

// Audit is one page of the audit, oldest first.
func (s *Service) Audit(ctx context.Context, after int64, limit int) (api.Audit, error) {
	entries, err := s.store.Audit(ctx, after, limit)
	if err != nil {
		return api.Audit{}, err
	}
	out := api.Audit{Entries: []api.AuditEntry{}, Next: after}
	for _, e := range entries {
		out.Entries = append(out.Entries, AuditEntry(e))
		out.Next = e.Seq
	}
	return out, nil
}

// AuditTail is what to give Audit as after, to get the latest n entries.
func (s *Service) AuditTail(ctx context.Context, n int) (int64, error) {
	state, err := s.store.State(ctx)
	return max(state.Audit-int64(n), 0), err
}

// AuditEntry is an entry as it goes over the wire.
func AuditEntry(e storage.AuditEntry) api.AuditEntry {
	out := api.AuditEntry{
		Seq: e.Seq, Time: api.At(e.Time), Type: e.Type, Actor: e.Actor,
		User: e.UserID, Device: e.DeviceID, ClientIP: e.ClientIP, Detail: e.Detail, Hash: hex.EncodeToString(e.Hash[:]),
	}
	if e.RootKeyID != nil {
		out.RootKeyID = token.RootKeyID(*e.RootKeyID).String()
	}
	return out
}

// VerifyAudit walks the whole chain and gives the number of entries and the
// latest hash. The error names the first entry that does not fit. Entries
// dropped from the end leave a whole chain, so its length is compared with the
// number that was given out last. The oldest entries may expire meanwhile.
func VerifyAudit(ctx context.Context, store storage.Store) (n int64, last string, err error) {
	const page = 1000
	state, err := store.State(ctx)
	if err != nil {
		return 0, "", err
	}
	var after int64
	var prev [32]byte
	follows := false // the next entry is the one after another that is kept
	for {
		entries, err := store.Audit(ctx, after, page)
		if err == nil && follows && (len(entries) == 0 || entries[0].Seq != after+1) {
			follows, err = keepsEntry(ctx, store, after)
		}
		if err != nil {
			return n, "", err
		}
		for _, e := range entries {
			if follows && (e.Prev != prev || e.Seq != after+1) {
				return n, "", refuse(api.CodeInvalid, "entry %d does not follow entry %d: entries were changed, dropped or reordered", e.Seq, after)
			}
			if !e.Intact() {
				return n, "", refuse(api.CodeInvalid, "entry %d was changed", e.Seq)
			}
			prev, after, follows = e.Hash, e.Seq, true
			n++
		}
		if len(entries) == page {
			continue
		}
		if follows && after < state.Audit { // without any entry all have expired
			return n, "", refuse(api.CodeInvalid, "entry %d is not there: the latest entries were dropped", state.Audit)
		}
		return n, hex.EncodeToString(prev[:]), nil
	}
}

// keepsEntry reports whether an entry, or an older one, is still there: entries
// expire from the oldest on.
func keepsEntry(ctx context.Context, store storage.Store, seq int64) (bool, error) {
	oldest, err := store.Audit(ctx, 0, 1)
	return len(oldest) > 0 && oldest[0].Seq <= seq, err
}

func apiTime(t time.Time) *api.Time {
	if t.IsZero() {
		return nil
	}
	at := api.At(t)
	return &at
}
