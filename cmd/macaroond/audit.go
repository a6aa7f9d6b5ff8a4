package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"macaroond/service"
	"macaroond/service/api"
)

func newAudit(e *env) *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "Read and check the audit"}
	verify := &cobra.Command{
		Use: "verify", Short: "Check that no kept entry was changed, dropped or reordered", Args: cobra.NoArgs,
		Long: `Walk the audit's hash chain. Whoever can write the database could compute a
whole new chain: note the hash that this prints somewhere else, and compare.`,
		RunE: func(c *cobra.Command, _ []string) error {
			st, done, err := e.opened(c)
			if err != nil {
				return err
			}
			defer done()
			var n int64
			var last string
			err = e.working("checking the audit", func() (err error) {
				n, last, err = service.VerifyAudit(c.Context(), st)
				return err
			})
			if err != nil {
				return err
			}
			return e.print(c, map[string]any{"entries": n, "hash": last}, func(w io.Writer) {
				fmt.Fprintf(w, "%d entries, unbroken; latest hash %s\n", n, last)
			})
		},
	}
	var lines int
	var follow bool
	tail := &cobra.Command{
		Use: "tail", Short: "Print the latest entries", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if lines < 0 {
				return usagef("--lines: must be 0 or more")
			}
			s, done, err := e.service(c, needs{})
			if err != nil {
				return err
			}
			defer done()
			after, err := s.AuditTail(c.Context(), lines)
			if err != nil {
				return err
			}
			for {
				page, err := s.Audit(c.Context(), after, 1000)
				if err != nil {
					return err
				}
				for _, entry := range page.Entries {
					if err := e.print(c, entry, func(w io.Writer) { auditLine(w, entry) }); err != nil {
						return err
					}
				}
				after = page.Next
				if len(page.Entries) > 0 {
					continue
				}
				if !follow {
					return nil
				}
				select {
				case <-c.Context().Done():
					return nil
				case <-time.After(500 * time.Millisecond):
				}
			}
		},
	}
	tail.Flags().IntVarP(&lines, "lines", "n", 20, "how many")
	tail.Flags().BoolVarP(&follow, "follow", "f", false, "wait for more")
	c.AddCommand(verify, tail)
	return c
}

func auditLine(w io.Writer, a api.AuditEntry) {
	fmt.Fprintf(w, "%d %s %s", a.Seq, a.Time.Format(time.RFC3339), a.Type)
	for _, f := range [...][2]string{{"actor", a.Actor}, {"user", a.User}, {"device", a.Device}, {"root_key_id", a.RootKeyID}, {"client_ip", a.ClientIP}, {"detail", a.Detail}} {
		if f[1] != "" {
			fmt.Fprintf(w, " %s=%s", f[0], f[1])
		}
	}
	fmt.Fprintln(w)
}
