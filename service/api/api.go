// Package api is the wire: the JSON of requests and answers, and the stable
// codes in them. Server, client and commands share it; it imports nothing but
// the standard library and decides nothing.
//
// All timestamps are RFC 3339 UTC in whole seconds. Types that hold a secret
// keep it in a plain string because it must travel; whoever logs one of these
// types as a whole has a bug, so they are never passed to a logger.
package api

import "time"

// Time is a timestamp in whole seconds, UTC, as [At] makes it. It is written as
// it is: in RFC 3339, with Z.
type Time struct{ time.Time }

// At cuts t to whole seconds in UTC.
func At(t time.Time) Time { return Time{t.UTC().Truncate(time.Second)} }

// DeviceIn names the device that logs in. InstallID, when given, is chosen once
// by the installed client; a later login with it replaces that device's root
// key instead of adding a device.
type DeviceIn struct {
	Name      string `json:"name"`
	InstallID string `json:"install_id,omitempty"`
}

// SignupIn is the body of POST /v1/signup. Without a password the device's
// token is the only credential.
type SignupIn struct {
	Username string   `json:"username"`
	Password string   `json:"password,omitempty"`
	Device   DeviceIn `json:"device"`
	Mode     string   `json:"mode,omitempty"` // as LoginIn's
}

// LoginIn is the body of POST /v1/login. Username and Password are left out
// when HTTP Basic carries them. TTL is in seconds, at most the configured
// root_ttl.
type LoginIn struct {
	Username string   `json:"username,omitempty"`
	Password string   `json:"password,omitempty"`
	Device   DeviceIn `json:"device"`
	TTL      int64    `json:"ttl,omitzero"`
	Audience string   `json:"audience,omitempty"`
	Mode     string   `json:"mode,omitempty"` // ModeToken, the default, or ModeCookie: see Grant
}

// RecoverIn is the body of POST /v1/recover: a one-time recovery code instead
// of a password. Every other device of the user is revoked.
type RecoverIn struct {
	Username string   `json:"username"`
	Code     string   `json:"code"`
	Device   DeviceIn `json:"device"`
	Mode     string   `json:"mode,omitempty"` // as LoginIn's
}

// Grant is what a login answers. In ModeCookie the token goes into the
// cookie, and CSRFToken is there instead of Token and TokenType.
type Grant struct {
	Token         string    `json:"token,omitempty"`
	TokenType     string    `json:"token_type,omitempty"` // "Bearer"
	CSRFToken     string    `json:"csrf_token,omitempty"`
	ExpiresAt     Time      `json:"expires_at"`
	ExpiresIn     int64     `json:"expires_in"` // seconds
	User          UserRef   `json:"user"`
	Device        DeviceRef `json:"device"`
	RootKeyID     string    `json:"root_key_id"`
	Access        *Access   `json:"access,omitempty"`
	RecoveryCodes []string  `json:"recovery_codes,omitempty"`
}

// Access is a narrowed token for clients that do not narrow themselves.
type Access struct {
	Token     string `json:"token"`
	Audience  string `json:"audience"`
	ExpiresAt Time   `json:"expires_at"`
}

// UserRef and DeviceRef name the two halves of an identity.
type (
	UserRef struct {
		ID       string `json:"id"`
		Username string `json:"username"`
	}
	DeviceRef struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}
)

// Device is one row of the devices list.
type Device struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	RootKeyID     string `json:"root_key_id"`
	CreatedAt     Time   `json:"created_at"`
	LastSeenAt    Time   `json:"last_seen_at"`
	ExpiresAt     Time   `json:"expires_at"`
	Current       bool   `json:"current"`
	RemovalDueAt  *Time  `json:"removal_due_at,omitempty"` // when a removal that waits may be done
	RevokedAt     *Time  `json:"revoked_at,omitempty"`
	RevokedReason string `json:"revoked_reason,omitempty"`
}

// Devices is the answer of GET /v1/devices.
type Devices struct {
	Devices []Device `json:"devices"`
}

// RenameIn is the body of PATCH /v1/devices/{id}.
type RenameIn struct {
	Name string `json:"name"`
}

// VerifyIn is the body of POST /v1/verify.
type VerifyIn struct {
	Token   string  `json:"token"`
	Request Request `json:"request"`
}

// Request is what the asker knows of the request that carried the token.
// What is left out is unknown, and a caveat about it refuses.
type Request struct {
	Method     string            `json:"method,omitempty"`
	Path       string            `json:"path,omitempty"`     // as it came, escapes and all
	URL        string            `json:"url,omitempty"`      // absolute; gives the path when path is left out
	Audience   string            `json:"audience,omitempty"` // the asker's own
	ClientIP   string            `json:"client_ip,omitempty"`
	Origin     string            `json:"origin,omitempty"`
	Actions    []string          `json:"actions,omitempty"`
	BodySHA256 string            `json:"body_sha256,omitempty"` // hex
	DPoP       string            `json:"dpop,omitempty"`
	Via        string            `json:"via,omitempty"`
	Extra      map[string]string `json:"extra,omitempty"`
}

// Decision is the explained verdict. Principal, ExpiresAt and Caveats are
// there only when the chain held.
type Decision struct {
	Allowed   bool            `json:"allowed"`
	Code      string          `json:"code"`
	Reason    string          `json:"reason"`
	Principal *Principal      `json:"principal,omitempty"`
	ExpiresAt *Time           `json:"expires_at,omitempty"`
	Caveats   []CaveatVerdict `json:"caveats,omitempty"`
}

// Principal is who the authority minted the token for.
type Principal struct {
	User      string `json:"user"`
	Username  string `json:"username"`
	Device    string `json:"device"`
	RootKeyID string `json:"root_key_id"`
}

// CaveatVerdict is one caveat's part of a decision. Those of policies come after
// the token's own; their index goes on.
type CaveatVerdict struct {
	Index  int    `json:"index"`
	Text   string `json:"text"`
	Source string `json:"source"` // "mint", "holder" or "policy"
	Held   bool   `json:"held"`
	Reason string `json:"reason,omitempty"`
}

// RevokeIn is the body of POST /v1/revoke: a token, or (with the owner's bare
// root) the holder caveats of the branch.
type RevokeIn struct {
	Token   string    `json:"token,omitempty"`
	Caveats *[]string `json:"caveats,omitempty"`
}

// RevokeOut says what died: "branch" or "device".
type RevokeOut struct {
	Grain string `json:"grain"`
}

// User is a row of the users list.
type User struct {
	ID          string `json:"id"`
	Username    string `json:"username"`
	Role        string `json:"role,omitempty"`
	CreatedAt   Time   `json:"created_at"`
	SuspendedAt *Time  `json:"suspended_at,omitempty"`
	Owner       string `json:"owner,omitempty"` // the service whose user this is
}

// Users is one page; Next, when not empty, is the next page's ?after=.
type Users struct {
	Users []User `json:"users"`
	Next  string `json:"next,omitempty"`
}

// UserIn is the body of POST /v1/admin/users.
type UserIn struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Role     string `json:"role,omitempty"`
}

// PasswordIn is the body of POST /v1/admin/users/{id}/password.
type PasswordIn struct {
	Password string `json:"password"`
}

// ServiceIn asks for a service credential.
type ServiceIn struct {
	Name    string   `json:"name"`
	Serves  []string `json:"serves,omitempty"`
	Calls   []string `json:"calls,omitempty"`
	Actions []string `json:"actions,omitempty"`
	Rights  []string `json:"rights,omitempty"`
}

// Service is a service credential; Secret is there once, when it was made.
type Service struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Secret    string   `json:"secret,omitempty"`
	Serves    []string `json:"serves"`
	Calls     []string `json:"calls"`
	Actions   []string `json:"actions"`
	Rights    []string `json:"rights"`
	CreatedAt Time     `json:"created_at"`

	SecretID string          `json:"secret_id,omitempty"` // of Secret
	Secrets  []ServiceSecret `json:"secrets,omitzero"`    // in lists: ids only
}

// Services is the answer of GET /v1/admin/services.
type Services struct {
	Services []Service `json:"services"`
}

// AuditEntry is one line of the audit; Hash is the chain's (hex).
type AuditEntry struct {
	Seq       int64  `json:"seq"`
	Time      Time   `json:"time"`
	Type      string `json:"type"`
	Actor     string `json:"actor,omitempty"`
	User      string `json:"user,omitempty"`
	Device    string `json:"device,omitempty"`
	RootKeyID string `json:"root_key_id,omitempty"`
	ClientIP  string `json:"client_ip,omitempty"`
	Detail    string `json:"detail,omitempty"`
	Hash      string `json:"hash"`
}

// Audit is one page; Next is the next page's ?after=.
type Audit struct {
	Entries []AuditEntry `json:"entries"`
	Next    int64        `json:"next"`
}

// OAuthError is RFC 6749 section 5.2's body.
type OAuthError struct {
	Error            string `json:"error"`
	ErrorDescription string `json:"error_description,omitempty"`
}

// Health is the answer of /livez and /readyz.
type Health struct {
	Status string            `json:"status"` // "ok" or "unavailable"
	Checks map[string]string `json:"checks,omitempty"`
}
