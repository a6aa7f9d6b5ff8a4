package main

import "github.com/spf13/cobra"

const tokensTopic = `Where macaroon gets its token from, first match first:

  --token-file FILE    - is standard input
  standard input       attenuate, inspect, verify and revoke, when it is a pipe or
                       a file, which must not be empty; at a terminal, and with
                       < /dev/null, it is passed over; the other commands leave
                       it alone
  the store            $XDG_CONFIG_HOME/macaroon/credentials.json (or below
                       ~/.config), where login, signup and recover keep the root
                       token of each server; revoke never takes it from there

A token on the command line is visible to everybody on the machine; if that does
not matter, --token-visible-in-ps TOKEN.

The store is mode 0600 in a directory of mode 0700, and is not read when it is
open to others. It is keyed by the server's URL: --server, or else
MACAROON_SERVER, or else the default, which is the first server logged in at
(macaroon login --default changes it). The location that stands in a token is
not signed and never used.

Passwords are asked for at the terminal without echo, or read from
--password-file.`

// topics are commands that only have help.
func topics() []*cobra.Command {
	return []*cobra.Command{
		{Use: "exit-codes", Short: "what the exit codes mean", Long: exitCodesTopic},
		{Use: "tokens", Short: "where tokens and passwords come from", Long: tokensTopic},
	}
}
