package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/guard"
	"macaroond/service/token"
)

// The example of docs/services.md: a shop that the user's app calls, orders that
// the shop calls, and mail that orders call. Each is a server of its own behind a
// guard, and nothing passes between them but HTTP.
type company struct {
	authority               *authority
	shop, orders, mail      *httptest.Server
	asShop, asOrders        api.Service
	shopTokens, orderTokens oauth2.TokenSource

	mu    sync.Mutex
	inbox []string // what mail was told: who, method, path
	last  struct{ toOrders, ordersOwn, receipt, worker string }
}

// order is what the app sends to the shop, and the shop to orders: the item, and
// a token with which the user lets somebody send one receipt.
type order struct{ Item, Receipt string }

// startCompany makes the services and begins to serve.
func startCompany(t *testing.T) *company {
	t.Helper()
	a := ownAuthority(t, t.TempDir())
	c := &company{authority: a}
	c.asShop = a.addService(t, "shop", "--serves", "shop", "--calls", "orders")
	c.asOrders = a.addService(t, "orders", "--serves", "orders", "--calls", "mail", "--allow", "mail:send")
	asMail := a.addService(t, "mail", "--serves", "mail")
	background := context.Background() // both outlive the request that first needs them
	c.shopTokens = clientCredentials(a, c.asShop, oauth2.AuthStyleInHeader, "orders").TokenSource(background)
	c.orderTokens = clientCredentials(a, c.asOrders, oauth2.AuthStyleInHeader, "mail").TokenSource(background)
	c.shop = protect(t, a, c.asShop, "shop", nil, c.serveShop)
	c.orders = protect(t, a, c.asOrders, "orders", nil, c.serveOrders)
	c.mail = protect(t, a, asMail, "mail", []string{"mail:send"}, c.serveMail)
	return c
}

// protect serves handler behind a guard of the audience. actions are what every
// request to it is about.
func protect(t *testing.T, a *authority, s api.Service, audience string, actions []string, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	g, err := guard.New(context.Background(), guard.Options{
		Authority: a.url, Credential: client.Basic(s.ID, s.Secret), Audience: audience,
		Facts: func(_ *http.Request, facts *caveats.Request) { facts.Actions = actions },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	if err := g.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(g.Protect(handler))
	t.Cleanup(server.Close)
	return server
}

// narrowed is a token for one request, made offline.
func narrowed(text string, n client.Narrowing) (string, error) {
	t, err := token.Parse(text)
	if err != nil {
		return "", err
	}
	if t, err = client.Narrow(t, n, time.Now()); err != nil {
		return "", err
	}
	return t.Text(), nil
}

// post sends a body with a token, and gives the status.
func post(ctx context.Context, url, text string, body any) (int, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(string(data)))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+text)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	io.Copy(io.Discard, res.Body)
	return res.StatusCode, nil
}

// serveShop speaks to orders with a token of its own, narrowed to this one
// request. The user's token for the shop is no use to it there.
func (c *company) serveShop(w http.ResponseWriter, r *http.Request) {
	var in order
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, "not an order", http.StatusBadRequest)
		return
	}
	own, err := c.shopTokens.Token()
	if err != nil {
		http.Error(w, "no token of the shop's own", http.StatusBadGateway)
		return
	}
	pass, _ := guard.From(r.Context())
	text, err := narrowed(own.AccessToken, client.Narrowing{
		For: time.Minute, Methods: []string{"POST"}, Paths: []string{"/v1/orders"}, Note: "for " + pass.User,
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	c.keep(func() { c.last.toOrders = text })
	c.relay(w, r, c.orders.URL+"/v1/orders", text, in)
}

// serveOrders tells mail twice: as itself, through a worker that it hands a
// narrowed token of its own, and as the user, with the user's token narrowed to
// this order.
func (c *company) serveOrders(w http.ResponseWriter, r *http.Request) {
	var in order
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, "not an order", http.StatusBadRequest)
		return
	}
	own, err := c.orderTokens.Token()
	if err != nil {
		http.Error(w, "no token of orders' own", http.StatusBadGateway)
		return
	}
	worker, err := narrowed(own.AccessToken, client.Narrowing{For: time.Minute, Methods: []string{"POST"}, Paths: []string{"/v1/notices/17"}})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	receipt, err := narrowed(in.Receipt, client.Narrowing{For: time.Minute, Methods: []string{"POST"}, Paths: []string{"/v1/receipts/17"}})
	if err != nil {
		http.Error(w, "not a token", http.StatusBadRequest)
		return
	}
	c.keep(func() { c.last.ordersOwn, c.last.worker, c.last.receipt = own.AccessToken, worker, receipt })
	if status, err := post(r.Context(), c.mail.URL+"/v1/notices/17", worker, "a new order"); err != nil || status != http.StatusOK {
		http.Error(w, fmt.Sprint("the notice: ", status, err), http.StatusBadGateway)
		return
	}
	c.relay(w, r, c.mail.URL+"/v1/receipts/17", receipt, "your receipt")
}

// serveMail sees who let the mail be sent, whoever brought it.
func (c *company) serveMail(w http.ResponseWriter, r *http.Request) {
	pass, _ := guard.From(r.Context())
	c.keep(func() { c.inbox = append(c.inbox, pass.User+" "+r.URL.Path) })
}

func (c *company) relay(w http.ResponseWriter, r *http.Request, url, text string, body any) {
	status, err := post(r.Context(), url, text, body)
	if err != nil {
		status = http.StatusBadGateway
	}
	w.WriteHeader(status)
}

func (c *company) keep(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// TestThreeServices: each hop is let in by its own token for the next audience;
// nobody can use a token one hop further, or for more; and each of those who
// gave something can take it back alone.
func TestThreeServices(t *testing.T) {
	c := startCompany(t)
	a := c.authority
	user := a.user(t)
	root := a.login(t, user)
	toShop := narrow(t, root.Token, in(time.Minute), "audience shop", "method POST", "path /orders")
	letReceipt := narrow(t, root.Token, in(5*time.Minute), "audience mail", "allow mail:send", "method POST", "path /v1/receipts/**", "note receipt of my order")
	buy := func() int {
		t.Helper()
		status, err := post(t.Context(), c.shop.URL+"/orders", toShop, order{"tea", letReceipt})
		if err != nil {
			t.Fatal(err)
		}
		return status
	}
	if status := buy(); status != http.StatusOK {
		t.Fatalf("buying: %d", status)
	}
	if got, want := strings.Join(c.inbox, "|"), c.asOrders.ID+" /v1/notices/17|"+user.ID+" /v1/receipts/17"; got != want {
		t.Errorf("mail was told %s, want %s", got, want)
	}

	asShop, asOrders := c.last.toOrders, c.last.ordersOwn
	for _, row := range []struct {
		name, url, text string
		want            int
	}{
		{"the shop's token for orders, at mail", c.mail.URL + "/v1/notices/17", asShop, 401},
		{"the same with another audience appended", c.mail.URL + "/v1/notices/17", narrow(t, asShop, "audience mail"), 401},
		{"the shop's token for orders, for more", c.orders.URL + "/v1/refunds", asShop, 403},
		{"the user's token for the shop, at orders", c.orders.URL + "/v1/orders", toShop, 401},
		{"the user's token for the receipt, at orders", c.orders.URL + "/v1/orders", letReceipt, 401},
		{"the receipt of this order, for another", c.mail.URL + "/v1/receipts/18", c.last.receipt, 403},
		{"the receipt of this order, for a notice", c.mail.URL + "/v1/notices/17", c.last.receipt, 403},
		{"the user's token for receipts, for a notice", c.mail.URL + "/v1/notices/17", letReceipt, 403},
		{"the worker's token, for another order", c.mail.URL + "/v1/notices/18", c.last.worker, 403},
		{"the worker's token, as orders has it", c.mail.URL + "/v1/notices/18", asOrders, 200},
		{"the root, anywhere", c.mail.URL + "/v1/receipts/17", root.Token, 401},
		{"a token without audience", c.mail.URL + "/v1/receipts/17", narrow(t, root.Token, "allow mail:send"), 401},
		{"narrowed by who has it", c.mail.URL + "/v1/receipts/17", narrow(t, root.Token, "allow mail:send", "audience mail"), 200},
		{"orders' own at the authority", a.url + "/v1/verify", asOrders, 401},
		{"orders' own as a user's", a.url + "/v1/logout", asOrders, 401},
	} {
		status, err := post(t.Context(), row.url, row.text, struct{}{})
		if err != nil || status != row.want {
			t.Errorf("%s: %d, want %d (%v)", row.name, status, row.want, err)
		}
	}

	sends := func(what, path, text string, want int) {
		t.Helper()
		eventually(t, what, func() bool {
			status, err := post(t.Context(), c.mail.URL+path, text, struct{}{})
			return err == nil && status == want
		})
	}
	// Orders takes back what it gave the worker, and only that.
	a.revoke(t, c.last.worker)
	sends("the worker's token is refused", "/v1/notices/17", c.last.worker, 401)
	sends("orders' own lives on", "/v1/notices/17", asOrders, 200)
	// The user takes back the receipt, with what was narrowed from it.
	a.revoke(t, letReceipt)
	sends("the receipt is refused", "/v1/receipts/17", c.last.receipt, 401)
	if status := buy(); status != http.StatusUnauthorized {
		t.Errorf("an order with a receipt that was taken back: %d", status)
	}
	// The shop exchanges its secret: what it gets with the new one is good, and
	// orders refuses what was minted with the former.
	var made struct{ ID, Secret string }
	a.command(t, &made, "service", "secret", "add", "shop")
	c.shopTokens = clientCredentials(a, api.Service{ID: made.ID, Secret: made.Secret}, oauth2.AuthStyleInHeader, "orders").TokenSource(context.Background())
	var removed struct{ ID string }
	a.command(t, &removed, "service", "secret", "remove", "shop", c.asShop.SecretID)
	letReceipt = narrow(t, root.Token, in(5*time.Minute), "audience mail", "allow mail:send", "path /v1/receipts/**")
	eventually(t, "the shop's former token is refused", func() bool {
		status, err := post(t.Context(), c.orders.URL+"/v1/orders", asShop, order{"tea", letReceipt})
		return err == nil && status == http.StatusUnauthorized
	})
	if status, err := post(t.Context(), c.mail.URL+"/v1/notices/17", asOrders, struct{}{}); err != nil || status != http.StatusOK {
		t.Errorf("orders' token after the shop's secret went: %d %v", status, err)
	}
}
