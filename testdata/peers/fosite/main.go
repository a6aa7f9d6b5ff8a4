// Command fosite serves token introspection with ory/fosite, the engine of Ory
// Hydra, from memory. It is a peer of the benchmarks, and nothing else.
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"net"
	"net/http"
	"runtime/debug"

	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/storage"
)

func main() {
	debug.SetGCPercent(400) // as macaroond serve does
	key := make([]byte, 32)
	rand.Read(key)
	config := &fosite.Config{GlobalSecret: key}
	store := storage.NewMemoryStore()
	// The default hasher of client secrets: bcrypt, cost 12.
	secret, err := config.GetSecretsHasher(context.Background()).Hash(context.Background(), []byte("bench-secret"))
	if err != nil {
		log.Fatal(err)
	}
	store.Clients["bench"] = &fosite.DefaultClient{ID: "bench", Secret: secret, GrantTypes: []string{"client_credentials"}}
	// The two handlers that are needed, so that no other one is asked in vain.
	p := compose.Compose(config, store, compose.NewOAuth2HMACStrategy(config),
		compose.OAuth2ClientCredentialsGrantFactory, compose.OAuth2TokenIntrospectionFactory)

	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		request, err := p.NewAccessRequest(ctx, r, new(fosite.DefaultSession))
		if err != nil {
			p.WriteAccessError(ctx, w, request, err)
			return
		}
		response, err := p.NewAccessResponse(ctx, request)
		if err != nil {
			p.WriteAccessError(ctx, w, request, err)
			return
		}
		p.WriteAccessResponse(ctx, w, request, response)
	})
	// fosite's own endpoint: the client authenticates, by Basic or by a token.
	mux.HandleFunc("POST /introspect", func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		response, err := p.NewIntrospectionRequest(ctx, r, new(fosite.DefaultSession))
		if err != nil {
			p.WriteIntrospectionError(ctx, w, err)
			return
		}
		p.WriteIntrospectionResponse(ctx, w, response)
	})
	// Hydra's endpoint: it stands on a private port and asks nobody who they are.
	mux.HandleFunc("POST /admin/introspect", func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		use, request, err := p.IntrospectToken(ctx, r.PostFormValue("token"), fosite.AccessToken, new(fosite.DefaultSession))
		if err != nil {
			p.WriteIntrospectionError(ctx, w, fosite.ErrInactiveToken.WithWrap(err))
			return
		}
		p.WriteIntrospectionResponse(ctx, w, &fosite.IntrospectionResponse{
			Active: true, AccessRequester: request, TokenUse: use, AccessTokenType: fosite.BearerAccessToken,
		})
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("fosite listens on http://%s\n", l.Addr())
	log.Fatal(http.Serve(l, mux))
}
