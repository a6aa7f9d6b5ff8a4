package client_test

import (
	"context"
	"log"
	"net/http"
	"os"
	"strings"
	"testing"

	"macaroond/service/client"
	"macaroond/service/client/rootfile"
	"macaroond/service/token"
)

// What an app has already.
var (
	ctx    = context.Background()
	issuer *client.Client
)

// docs/clients.md shows the body of this function, and TestExample compares.
func ExampleNewTransport() {
	root, err := token.Parse(os.Getenv("ROOT_TOKEN")) // from where the platform keeps secrets
	if err != nil {
		log.Fatal(err)
	}
	transport, err := client.NewTransport(root, client.TransportOptions{
		Origins:     []string{"https://photos.example"}, // nobody else gets a token
		Narrowing:   client.Narrowing{Audience: "photos", Actions: []string{"photos:read"}},
		BindRequest: true, // to its own method and path
	})
	if err != nil {
		log.Fatal(err)
	}
	photos := &http.Client{Transport: transport}
	answer, err := photos.Get("https://photos.example/albums/7")
	log.Println(answer, err)
}

// docs/clients.md shows the body of this one, too.
func ExampleSession() {
	session, err := client.NewSession(ctx, issuer, rootfile.Open("/var/lib/app/root.token"), client.SessionOptions{})
	if err != nil {
		log.Fatal(err)
	}
	transport, err := session.Transport(client.TransportOptions{
		Origins:   []string{"https://photos.example"},
		Narrowing: client.Narrowing{Audience: "photos"},
	})
	if err != nil {
		log.Fatal(err)
	}
	photos := &http.Client{Transport: transport}
	answer, err := photos.Get("https://photos.example/albums/7")
	log.Println(answer, err)
}

// TestExample: what docs/clients.md shows is what compiles here.
func TestExample(t *testing.T) {
	read := func(file, begin, end string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, ok := strings.Cut(string(text), begin)
		found, _, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatalf("%s has no %q", file, begin)
		}
		return found
	}
	for function, section := range map[string]string{
		"ExampleNewTransport": "## Go: a fresh token on every request\n",
		"ExampleSession":      "## Renewing the root\n",
	} {
		code := strings.ReplaceAll(read("example_test.go", "func "+function+"() {\n", "\n}\n"), "\n\t", "\n")
		_, shown, _ := strings.Cut(read("../../docs/clients.md", section, "\n## "), "```go\n")
		shown, _, _ = strings.Cut(shown, "\n```\n")
		if shown != strings.TrimPrefix(code, "\t") {
			t.Errorf("docs/clients.md shows\n%s\nand this is\n%s", shown, code)
		}
		if n := strings.Count(shown, "\n") + 1; n > 15 {
			t.Errorf("%d lines", n)
		}
	}
}
