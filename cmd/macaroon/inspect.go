package main

import (
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/token"
)

// inspection is what a token says, none of which has been checked.
type inspection struct {
	SignatureChecked bool        `json:"signature_checked"` // always false
	Location         string      `json:"location,omitempty"`
	Epoch            uint32      `json:"epoch"`
	RootKeyID        string      `json:"root_key_id"`
	User             string      `json:"user,omitempty"`   // left out, like Device, when
	Device           string      `json:"device,omitempty"` // the mint caveats are not in place
	BareRoot         bool        `json:"bare_root"`
	Audience         bool        `json:"names_audience"`
	ExpiresAt        *api.Time   `json:"expires_at,omitempty"`
	ExpiresIn        *int64      `json:"expires_in,omitempty"` // seconds; negative when past
	Caveats          []inspected `json:"caveats"`
}

type inspected struct {
	Index   int    `json:"index"`
	Text    string `json:"text"`
	Source  string `json:"source"` // "mint" or "holder"
	Remark  string `json:"remark,omitempty"`
	Problem string `json:"problem,omitempty"` // why verifiers refuse it
}

func (a *app) inspect() *cobra.Command {
	var t tokenFlags
	cmd := &cobra.Command{
		Use:   "inspect",
		Short: "show what a token says, offline",
		Long: `Show who a token is for, its caveats and who added them, and what is left of its
time. The signature is not checked: that takes the authority (macaroon verify).
The token is the one on standard input, in --token-file, or in the store.`,
		Args: cobra.NoArgs,
	}
	t.register(cmd)
	cmd.RunE = a.does(func(cmd *cobra.Command, _ []string) error {
		tok, err := a.presentedOrStored(cmd.Context(), &t)
		if err != nil {
			return err
		}
		now := time.Now()
		i := inspectToken(tok, now)
		if a.json {
			return a.printJSON(i)
		}
		a.printInspection(i, now)
		return nil
	})
	return cmd
}

func inspectToken(t *token.Token, now time.Time) inspection {
	id := t.UnverifiedIdentifier()
	texts := t.UnverifiedCaveats()
	out := inspection{
		Location: t.UnverifiedLocation(), Epoch: id.Epoch, RootKeyID: id.RootKeyID.String(),
		Audience: len(client.UnverifiedAudiences(t)) > 0, Caveats: []inspected{},
	}
	user, device, minted := claims(texts)
	if minted {
		out.User, out.Device = user, device
		out.BareRoot = len(texts) == token.MintCaveats || len(texts) == token.MintCaveats+1 && texts[token.MintCaveats] == "via cookie"
	}
	if expiry, ok := client.UnverifiedExpiry(t); ok {
		at, left := api.At(expiry), int64(expiry.Sub(now)/time.Second)
		out.ExpiresAt, out.ExpiresIn = &at, &left
	}
	for i, text := range texts {
		c := inspected{Index: i, Text: text, Source: "holder"}
		if minted && i < token.MintCaveats {
			c.Source = "mint"
		}
		c.Remark, c.Problem = remark(text, now)
		out.Caveats = append(out.Caveats, c)
	}
	return out
}

// claims is whom an unchecked token says that it was minted for: the caveats in
// the positions where only the authority writes. token.Chain.Identity is the
// same for a checked one, and the one to decide by.
func claims(texts []string) (user, device string, ok bool) {
	if len(texts) < token.MintCaveats || !strings.HasPrefix(texts[0], "time-before ") {
		return "", "", false
	}
	user, isUser := strings.CutPrefix(texts[1], "user ")
	device, isDevice := strings.CutPrefix(texts[2], "device ")
	return user, device, isUser && isDevice &&
		token.IsID(user, token.UserPrefix, token.ServicePrefix) && token.IsID(device, token.DevicePrefix)
}

// remark says what there is to know about one caveat.
func remark(text string, now time.Time) (remark, problem string) {
	_, err := caveats.Parse(text)
	switch {
	case errors.Is(err, caveats.ErrUnknown) && strings.HasPrefix(text, "x-"):
		return "a resource server's own; all others refuse it", ""
	case err != nil:
		return "", err.Error()
	}
	if at, ok := caveats.Before(text); ok {
		return until(at, now), ""
	}
	if at, ok := caveats.After(text); ok && at.After(now) {
		return "not valid before " + span(at.Sub(now)) + " from now", ""
	}
	return "", ""
}

func (a *app) printInspection(i inspection, now time.Time) {
	kind := "narrowed from a root"
	switch {
	case i.User == "":
		kind = "not a token of macaroond: the mint caveats are not in place"
	case i.BareRoot:
		kind = "a bare root: everything its user may do"
	}
	rows := [][]string{{"kind", kind}}
	if i.User != "" {
		rows = append(rows, []string{"user", i.User}, []string{"device", i.Device})
	}
	rows = append(rows, []string{"root key", i.RootKeyID}, []string{"epoch", itoa(int(i.Epoch))})
	if i.Location != "" {
		rows = append(rows, []string{"location", quoted(i.Location) + " (not signed)"})
	}
	if i.ExpiresAt == nil {
		rows = append(rows, []string{"expires", "never"})
	} else {
		rows = append(rows, []string{"expires", i.ExpiresAt.Format(time.RFC3339) + ", " + until(i.ExpiresAt.Time, now)})
	}
	switch {
	case i.Audience:
	case i.BareRoot:
		rows = append(rows, []string{"audience", "none: good at the authority only"})
	default:
		rows = append(rows, []string{"audience", "none: good nowhere yet"})
	}
	a.table(rows)
	a.printf("caveats\n")
	for _, c := range i.Caveats {
		a.printf("  %2d  %-6s  %s\n", c.Index, c.Source, shown(c.Text))
		if c.Remark != "" {
			a.printf("              %s\n", shown(c.Remark))
		}
		if c.Problem != "" {
			a.printf("              REFUSED EVERYWHERE: %s\n", shown(c.Problem))
		}
	}
	a.printf("\nThe signature was not checked here: anybody could have written all of this.\nmacaroon verify asks the authority.\n")
}
