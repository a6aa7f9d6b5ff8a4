package main

import (
	"github.com/spf13/cobra"

	"macaroond/service/api"
)

func (a *app) version() *cobra.Command {
	cmd := &cobra.Command{Use: "version", Short: "print the version of this program", Args: cobra.NoArgs}
	cmd.RunE = a.does(func(*cobra.Command, []string) error {
		v := api.Built(version)
		if a.json {
			return a.printJSON(v)
		}
		a.printf("%s\n", v.Of("macaroon"))
		return nil
	})
	return cmd
}

// version is set by the release build (-ldflags "-X main.version=…").
var version string
