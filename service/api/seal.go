package api

// SealIn is the body of POST /v1/seal.
type SealIn struct {
	Token   string   `json:"token"`
	Caveats []string `json:"caveats"`
}

// SealOut are the sealed caveats, in the same order, to be appended.
type SealOut struct {
	Caveats []string `json:"caveats"`
}
