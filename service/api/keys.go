package api

// Epoch is one generation of the authority's secret, without the secret.
type Epoch struct {
	Number    uint32 `json:"number"`
	State     string `json:"state"` // "signing", "verifying" or "retired"
	CreatedAt Time   `json:"created_at"`
	ExpiresAt *Time  `json:"expires_at,omitempty"` // of the last token minted in it; left out for none
}

// Epochs are those that are there, in order.
type Epochs struct {
	Epochs []Epoch `json:"epochs"`
}
