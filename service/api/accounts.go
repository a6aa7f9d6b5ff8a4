package api

// Proof is the body of what a root alone is not enough for: the password or a
// recovery code, at most one of them. Without either the act waits a day, or
// is refused, unless the device logged in with one of them a moment ago.
type Proof struct {
	Password string `json:"password,omitempty"`
	Code     string `json:"code,omitempty"`
}

// DelayedOut is answered with 202: nothing was done yet.
type DelayedOut struct {
	Delayed Delayed `json:"delayed"`
}

// Delayed is an act that waits. The same request from the same device does it
// from DueAt on, until ExpiresAt; any device of the user cancels it before.
type Delayed struct {
	ID        string `json:"id"`
	Act       string `json:"act"`              // "remove", "codes", "link" or "password"
	Target    string `json:"target,omitempty"` // of remove: a device's id, "others" or "all"
	Device    string `json:"device"`           // that asked
	Current   bool   `json:"current"`          // whether that is the one that asks now
	CreatedAt Time   `json:"created_at"`
	DueAt     Time   `json:"due_at"`
	ExpiresAt Time   `json:"expires_at"`
}

// DelayedActs is the answer of GET /v1/delayed.
type DelayedActs struct {
	Delayed []Delayed `json:"delayed"`
}

// RecoveryCodes are new ones, shown this once; those before are void.
type RecoveryCodes struct {
	RecoveryCodes []string `json:"recovery_codes"`
}

// RecoveryCodesLeft is how many are unused.
type RecoveryCodesLeft struct {
	Left int `json:"left"`
}

// LinkCode is what the first device shows, for the second one to give.
type LinkCode struct {
	ID        string `json:"id"`
	Code      string `json:"code"`
	ExpiresAt Time   `json:"expires_at"`
}

// LinkIn is the body of POST /v1/link: the second device gives the code.
type LinkIn struct {
	Username string   `json:"username"`
	Code     string   `json:"code"`
	Device   DeviceIn `json:"device"`
}

// LinkPending is answered with 202 until the first device has approved. Claim
// is there once, in the answer to the code.
type LinkPending struct {
	Claim     string `json:"claim,omitempty"`
	ExpiresAt Time   `json:"expires_at"`
}

// ClaimIn is the body of POST /v1/link/claim.
type ClaimIn struct {
	Claim string `json:"claim"`
	Mode  string `json:"mode,omitempty"` // as LoginIn's
}

// Link is a device on its way in, as the first device sees it. Name and
// ClientIP are there once somebody gave the code.
type Link struct {
	ID        string `json:"id"`
	Device    string `json:"device"` // that opened it: only it can approve
	CreatedAt Time   `json:"created_at"`
	ExpiresAt Time   `json:"expires_at"`
	Waiting   bool   `json:"waiting"` // somebody gave the code, and it is not approved yet
	Approved  bool   `json:"approved"`
	Name      string `json:"name,omitempty"`
	ClientIP  string `json:"client_ip,omitempty"`
}

// Links is the answer of GET /v1/links: at most one.
type Links struct {
	Links []Link `json:"links"`
}

// ChangePasswordIn is the body of POST /v1/password. Current or Code is the
// proof. KeepDevices leaves the user's other devices logged in.
type ChangePasswordIn struct {
	Current     string `json:"current,omitempty"`
	Code        string `json:"code,omitempty"`
	Password    string `json:"password"`
	KeepDevices bool   `json:"keep_devices,omitzero"`
}

// RoleIn is the body of PATCH /v1/admin/users/{id}: "admin", or "" for none.
type RoleIn struct {
	Role *string `json:"role"`
}
