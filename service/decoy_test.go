package service

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
)

// While hashes of different costs are stored, the costs of what is verified for
// a name that is nobody's are some user's: of each kind as often as there are
// users of it, and for one name always the same. Otherwise the time of an answer
// would tell who exists.
func TestDecoysCostWhatUsersCost(t *testing.T) {
	k := newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	k.SetSettings(Settings{Issuer: "https://auth.example", Audience: "macaroond", RootTTL: time.Hour, MaxStaleness: time.Minute, MaxDevices: 10})
	ctx := t.Context()
	cost := func(name string) string {
		t.Helper()
		phc, err := k.decoy(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if phc == "" {
			phc = k.hasher.decoy
		}
		return strings.Split(phc, "$")[3]
	}
	count := func() map[string]int {
		seen := map[string]int{}
		for i := range 200 {
			name := "nobody " + strconv.Itoa(i)
			c := cost(name)
			if again := cost(name); again != c {
				t.Errorf("%s: %s, then %s", name, c, again)
			}
			seen[c]++
		}
		return seen
	}
	const former, now = "m=8,t=1,p=1", "m=8,t=3,p=1"
	if seen := count(); seen[former] != 200 {
		t.Errorf("without users: %v", seen)
	}
	login := func(i int) {
		if _, err := k.Login(ctx, api.LoginIn{Username: "user " + strconv.Itoa(i), Password: "correct horse battery"}, Source{}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 40 {
		if _, err := k.AddUser(ctx, api.UserIn{Username: "user " + strconv.Itoa(i), Password: "correct horse battery"}, "", Source{}); err != nil {
			t.Fatal(err)
		}
	}
	k.hasher.Time = 3
	k.hasher.decoy = k.hasher.encode(make([]byte, 16), make([]byte, 32))
	if seen := count(); seen[former] != 200 {
		t.Errorf("nobody has logged in since: %v", seen)
	}
	for i := range 20 {
		login(i)
	}
	if seen := count(); seen[former] < 40 || seen[now] < 40 {
		t.Errorf("half of the users have: %v", seen)
	}
	for i := range 40 {
		login(i)
	}
	if seen := count(); seen[now] != 200 {
		t.Errorf("all have: %v", seen)
	}
	phc, err := k.decoy(ctx, "nobody")
	if ok, _, e := k.hasher.verify(ctx, "correct horse battery", phc); ok || err != nil || e != nil {
		t.Errorf("%v, %v, %v: it has a password", ok, err, e)
	}
}
