package client_test

import (
	"errors"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/client"
)

func wantDelayed(t *testing.T, err error, act string) *client.DelayedError {
	t.Helper()
	later, ok := errors.AsType[*client.DelayedError](err)
	if !ok || later.Act != act || time.Until(later.DueAt.Time) < 23*time.Hour {
		t.Fatalf("got %v, want %s to wait", err, act)
	}
	return later
}

// An account without a password: what waits, a second device, a first
// password, and the end.
func TestAccountAgainstTheServer(t *testing.T) {
	c, ctx := authority(t), t.Context()
	first := must[*api.Grant](t)(c.Signup(ctx, api.SignupIn{Username: "alice", Device: api.DeviceIn{Name: "phone"}}))
	me, codes := client.Bearer(first.Token), first.RecoveryCodes

	_, err := c.RecoveryCodes(ctx, me)
	wantDelayed(t, err, "codes")
	_, err = c.OpenLink(ctx, me)
	link := wantDelayed(t, err, "link")
	wantDelayed(t, c.ChangePassword(ctx, me, api.ChangePasswordIn{Password: password}), "password")
	if list := must[[]api.Delayed](t)(c.Delayed(ctx, me)); len(list) != 3 || list[1].ID != link.ID || !list[1].Current {
		t.Errorf("waiting: %+v", list)
	}
	if err := c.CancelDelayed(ctx, me, link.ID); err != nil {
		t.Error(err)
	}
	wantCode(t, c.CancelDelayed(ctx, me, link.ID), api.CodeNotFound)
	_, err = c.OpenLink(ctx, me, api.Proof{Code: "0000-0000-0000-0000"})
	wantCode(t, err, api.CodeProofRefused)
	if n := must[int](t)(c.RecoveryCodesLeft(ctx, me)); n != 10 {
		t.Errorf("%d codes are left", n)
	}

	open := must[*api.LinkCode](t)(c.OpenLink(ctx, me, api.Proof{Code: codes[0]}))
	in := api.LinkIn{Username: "alice", Code: open.Code, Device: api.DeviceIn{Name: "tablet"}}
	pending := must[*api.LinkPending](t)(c.ClaimLink(ctx, in))
	_, err = c.ClaimLink(ctx, in)
	wantCode(t, err, api.CodeBadCredentials)
	if g, err := c.TradeClaim(ctx, pending.Claim); g != nil || err != nil {
		t.Errorf("before approval: %v, %v", g, err)
	}
	if l := must[[]api.Link](t)(c.Links(ctx, me)); len(l) != 1 || !l[0].Waiting || l[0].Name != "tablet" {
		t.Errorf("%+v", l)
	}
	if err := c.ApproveLink(ctx, me, open.ID); err != nil {
		t.Error(err)
	}
	second := must[*api.Grant](t)(c.TradeClaim(ctx, pending.Claim))
	_, err = c.TradeClaim(ctx, pending.Claim)
	wantCode(t, err, api.CodeBadCredentials)
	tablet := client.Bearer(second.Token)
	other := must[*api.LinkCode](t)(c.OpenLink(ctx, me, api.Proof{Code: codes[1]}))
	if err := c.CloseLink(ctx, tablet, other.ID); err != nil {
		t.Error(err)
	}

	wantDelayed(t, c.RevokeDevice(ctx, me, second.Device.ID), "remove")
	wantDelayed(t, c.RevokeOtherDevices(ctx, me), "remove")
	wantDelayed(t, c.RevokeAllDevices(ctx, me, api.Proof{}), "remove")
	if _, err := c.Devices(ctx, tablet); err != nil {
		t.Errorf("it only waits: %v", err)
	}
	if err := c.RevokeDevice(ctx, me, second.Device.ID, api.Proof{Code: codes[2]}); err != nil {
		t.Error(err)
	}
	_, err = c.Devices(ctx, tablet)
	wantCode(t, err, api.CodeRevoked)

	if err := c.ChangePassword(ctx, me, api.ChangePasswordIn{Code: codes[3], Password: password}); err != nil {
		t.Error(err)
	}
	wantCode(t, c.ChangePassword(ctx, me, api.ChangePasswordIn{Password: "several loud magpies"}), api.CodeProofRequired)
	if fresh := must[[]string](t)(c.RecoveryCodes(ctx, me, api.Proof{Password: password})); len(fresh) != 10 {
		t.Errorf("%d codes", len(fresh))
	}

	grant := must[*api.Grant](t)(c.Login(ctx, api.LoginIn{Username: "root", Password: password, Device: api.DeviceIn{Name: "console"}}))
	admin := client.Bearer(grant.Token)
	if u := must[*api.User](t)(c.SetRole(ctx, admin, first.User.ID, "admin")); u.Role != "admin" {
		t.Errorf("%+v", u)
	}
	must[*api.User](t)(c.SetRole(ctx, admin, first.User.ID, ""))
	wantCode(t, c.DeleteUser(ctx, admin, grant.User.ID), api.CodeLastAdmin)
	wantCode(t, c.DeleteAccount(ctx, me, api.Proof{}), api.CodeProofRequired)
	if err := c.DeleteAccount(ctx, me, api.Proof{Password: password}); err != nil {
		t.Error(err)
	}
	_, err = c.Devices(ctx, me)
	wantCode(t, err, api.CodeRevoked)
	wantCode(t, c.DeleteUser(ctx, admin, first.User.ID), api.CodeNotFound)
	for i, err := range []error{
		c.CancelDelayed(ctx, me, ".."), c.ApproveLink(ctx, me, ""), c.CloseLink(ctx, me, "lnk_"), c.DeleteUser(ctx, admin, "usr_"),
	} {
		if !errors.Is(err, client.ErrID) {
			t.Errorf("%d: %v", i, err)
		}
	}
}
