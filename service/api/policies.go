package api

// PolicyTarget says whose tokens a policy is for: exactly one of its members.
type PolicyTarget struct {
	User     string `json:"user,omitempty"`   // usr_… or, for a service's own tokens, svc_…
	Device   string `json:"device,omitempty"` // dev_…
	Everyone bool   `json:"everyone,omitzero"`
}

// PolicyIn is the body of POST /v1/admin/policies.
type PolicyIn struct {
	Target  PolicyTarget `json:"target"`
	Caveats []string     `json:"caveats"`
	Reason  string       `json:"reason"`
	TTL     int64        `json:"ttl,omitzero"` // seconds; left out: until it is removed
}

// Policy is caveats that are ANDed to those of tokens which are out already.
type Policy struct {
	ID        string       `json:"id"`
	Target    PolicyTarget `json:"target"`
	Caveats   []string     `json:"caveats"`
	Reason    string       `json:"reason"`
	CreatedAt Time         `json:"created_at"`
	ExpiresAt *Time        `json:"expires_at,omitempty"`
}

// Policies are all that are in force, the oldest first.
type Policies struct {
	Policies []Policy `json:"policies"`
}
