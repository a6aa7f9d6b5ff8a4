package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"macaroond/service/api"
	"macaroond/service/keyring"
	"macaroond/storage"
)

// epochOut is a row of keys list.
type epochOut struct {
	Epoch     uint32    `json:"epoch"`
	State     string    `json:"state"`
	CreatedAt api.Time  `json:"created_at"`
	ExpiresAt *api.Time `json:"expires_at,omitempty"` // of the last token minted in it
}

var epochStates = map[storage.EpochState]string{
	storage.EpochSigning: "signing", storage.EpochVerifying: "verifying", storage.EpochRetired: "retired",
}

func newKeys(e *env) *cobra.Command {
	c := &cobra.Command{Use: "keys", Short: "Key-encryption keys and epochs"}
	fresh := &cobra.Command{
		Use: "new", Short: "Print a new key-encryption key, for a key file of mode 0600", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			key := keyring.NewKeyText()
			if flagBool(c.Flags(), "json") {
				return writeJSON(e.Stdout, map[string]string{"key": key})
			}
			_, err := fmt.Fprintln(e.Stdout, key)
			return err // a key file that is empty is no success
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "List epochs", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			st, done, err := e.opened(c)
			if err != nil {
				return err
			}
			defer done()
			epochs, err := st.Epochs(c.Context())
			if err != nil {
				return err
			}
			out := []epochOut{}
			for _, ep := range epochs {
				row := epochOut{Epoch: ep.Number, State: epochStates[ep.State], CreatedAt: api.At(ep.CreatedAt)}
				if !ep.ExpiresAt.IsZero() {
					at := api.At(ep.ExpiresAt)
					row.ExpiresAt = &at
				}
				out = append(out, row)
			}
			return e.print(c, out, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "EPOCH\tSTATE\tCREATED\tLAST TOKEN EXPIRES")
				for _, r := range out {
					fmt.Fprintf(t, "%d\t%s\t%s\t%s\n", r.Epoch, r.State, since(&r.CreatedAt), since(r.ExpiresAt))
				}
				t.Flush()
			})
		},
	}
	c.AddCommand(fresh, list)
	return c
}
