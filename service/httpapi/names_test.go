package httpapi

import (
	"database/sql"
	"strings"
	"testing"

	"macaroond/service/api"
)

// Names: NFC, 1 to 64 characters, nothing that cannot be seen, nothing that
// reads like an id or like the service itself; taken under NFKC case folding.
func TestNames(t *testing.T) {
	const (
		free     = ""
		bad      = "bad_request"
		taken    = "name_taken"
		combined = "e\u0301" // é in two characters
	)
	a := start(t)
	for _, name := range []string{"alice", "fish", "Straße", "ångström", "Σίσυφος", "two words", "\u13a0\u13a1", "\u0130stanbul"} {
		a.post("/v1/signup", "", api.SignupIn{Username: name, Device: api.DeviceIn{Name: "d"}}).want(201, "")
	}
	for _, row := range []struct{ why, name, code string }{
		{"letters of any script", "Ελένη", free},
		{"letters of any script", "美咲", free},
		{"letters of any script", "प्रिया", free},
		{"one character", "x", free},
		{"64 characters", strings.Repeat("é", 64), free},
		{"64 characters in NFC, more before", strings.Repeat(combined, 63) + "z", free},
		{"punctuation", "o'hara-smith_jr.", free},
		{"an e-mail address", "a@b.example", free},
		{"single spaces", "Ada of Lovelace", free},
		{"an emoji", "\U0001F600", free},

		{"taken", "alice", taken},
		{"taken in capitals", "ALICE", taken},
		{"taken in one capital", "alicE", taken},
		{"taken in circles", "Ⓐlice", taken},
		{"taken in fullwidth", "ａｌｉｃｅ", taken},
		{"taken in mathematical bold", "𝐚𝐥𝐢𝐜𝐞", taken},
		{"taken with a ligature", "ﬁsh", taken},
		{"taken, sharp s", "STRASSE", taken},
		{"taken, capital sharp s", "STRAẞE", taken},
		{"taken, decomposed", "a\u030angstro\u0308m", taken},
		{"taken, with the Ångström sign", "\u212bngström", taken},
		{"taken, final sigma", "ΣΊΣΥΦΟΣ", taken},
		{"taken, a dotted capital", "istanbul", taken},
		{"taken, its case folding", "i\u0307stanbul", taken},
		{"taken in capitals with a space", "TWO WORDS", taken},

		{"empty", "", bad},
		{"65 characters", strings.Repeat("x", 65), bad},
		{"60 KiB", strings.Repeat("x", 60_000), bad},
		{"taken in Cherokee small letters", "\uab70\uab71", taken},
		{"a mark alone", "\u0301", bad},
		{"a leading mark", "\u0338bob", bad},
		{"a leading mark that takes room", "\u0903bob", bad},
		{"a space alone", " ", bad},
		{"a leading space", " bob", bad},
		{"a trailing space", "bob ", bad},
		{"two spaces", "bob  b", bad},
		{"no-break space", "bob\u00a0b", bad},
		{"narrow no-break space", "bob\u202fb", bad},
		{"em space", "bob\u2003b", bad},
		{"ideographic space", "bob\u3000b", bad},
		{"ogham space", "bob\u1680b", bad},
		{"braille blank", "bob\u2800b", bad},
		{"hangul filler", "bob\u3164b", bad},
		{"line separator", "bob\u2028b", bad},
		{"tab", "bob\tb", bad},
		{"newline", "bob\nb", bad},
		{"NUL", "bob\x00b", bad},
		{"escape", "bob\x1b[31m", bad},
		{"C1 control", "bob\u0085b", bad},
		{"zero width space", "bob\u200bb", bad},
		{"zero width joiner", "bob\u200db", bad},
		{"soft hyphen", "bob\u00adb", bad},
		{"word joiner", "bob\u2060b", bad},
		{"byte order mark", "bob\ufeffb", bad},
		{"combining grapheme joiner", "bob\u034fb", bad},
		{"variation selector", "bob\ufe0fb", bad},
		{"tag character", "bob\U000e0041b", bad},
		{"right-to-left override", "bob\u202eb", bad},
		{"left-to-right mark", "bob\u200eb", bad},
		{"isolate", "bob\u2066b", bad},
		{"replacement character", "bob\ufffdb", bad},
		{"private use", "bob\ue000b", bad},
		{"not a character", "bob\ufffeb", bad},
		{"colon", "bob:b", bad},
		{"fullwidth colon", "bob：b", bad},
		{"a dash alone", "-", bad},
		{"like a user's id", "usr_0123456789abcdef", bad},
		{"like a user's id, short", "USR_x", bad},
		{"like a service's id", "svc_x", bad},
		{"like a device's id", "ｄｅｖ_x", bad},
		{"reserved", "admin", bad},
		{"reserved in capitals", "Root", bad},
		{"reserved with a dot that is not seen", "admi\u0307n", bad},
		{"reserved in fullwidth", "ｓｙｓｔｅｍ", bad},
	} {
		status := map[string]int{free: 201, bad: 400, taken: 409}[row.code]
		r := a.post("/v1/signup", "", api.SignupIn{Username: row.name, Device: api.DeviceIn{Name: "d"}})
		p := r.want(status, row.code)
		if r.StatusCode != status {
			t.Errorf("the name was: %s, %+q", row.why, row.name)
		}
		if row.code == bad && p.Field != "/username" {
			t.Errorf("%s: field %q", row.why, p.Field)
		}
	}
}

// A name is shown in NFC as it was chosen, and any spelling of it logs in.
func TestNamesAreKeptAndFolded(t *testing.T) {
	a := start(t)
	a.user("Zoe\u0308 Müller")
	for _, name := range []string{"Zoë Müller", "zoë müller", "ZOE\u0308 MÜLLER", "Ｚｏë Ｍüller"} {
		g := into[api.Grant](a.post("/v1/login", "", api.LoginIn{Username: name, Password: password("Zoe\u0308 Müller"), Device: api.DeviceIn{Name: "Zoe\u0308's"}}), 200)
		if g.User.Username != "Zoë Müller" || g.Device.Name != "Zoë's" {
			t.Errorf("%q is shown as %+q with %+q", name, g.User.Username, g.Device.Name)
		}
	}
}

// A user who came when the dot above an i made another name is found under it
// still, and nobody else comes by it; everybody else goes by the name without.
func TestNamesOfEarlierReleases(t *testing.T) {
	a := start(t)
	const dotted = "i\u0307stanbul"
	old := a.user(dotted)
	db := must(sql.Open("sqlite", a.path))
	must(db.Exec(`UPDATE users SET name_key = ? WHERE id = ?`, dotted, old.User.ID))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	a.post("/v1/signup", "", api.SignupIn{Username: dotted, Device: api.DeviceIn{Name: "d"}}).want(409, "name_taken")
	for _, name := range []string{"istanbul", "i\u0307zmir"} {
		a.user(name)
	}
	for _, row := range []struct{ name, whose string }{
		{dotted, dotted},
		{"I\u0307stanbul", "istanbul"},
		{"istanbul", "istanbul"},
		{"ISTANBUL", "istanbul"},
		{"i\u0307zmir", "i\u0307zmir"},
		{"izmir", "i\u0307zmir"},
		{"\u0130ZMIR", "i\u0307zmir"},
	} {
		g := into[api.Grant](a.post("/v1/login", "", api.LoginIn{Username: row.name, Password: password(row.whose), Device: api.DeviceIn{Name: "d"}}), 200)
		if g.User.Username != row.whose {
			t.Errorf("%+q logs %+q in", row.name, g.User.Username)
		}
	}
	if u, err := a.svc.FindUser(t.Context(), dotted); err != nil || u.ID != old.User.ID {
		t.Errorf("found: %+v, %v", u, err)
	}
	code := into[api.LinkCode](a.do(ask{method: "POST", path: "/v1/links", auth: bearer(old.Token)}), 201)
	a.post("/v1/link", "", api.LinkIn{Username: dotted, Code: code.Code, Device: api.DeviceIn{Name: "d"}}).want(202, "")
}

// An administrator may give a reserved name; nobody may give a bad one.
func TestReservedNamesAreGiven(t *testing.T) {
	a := start(t)
	chief := a.admin()
	a.post("/v1/admin/users", bearer(chief.Token), api.UserIn{Username: "support", Password: "long enough"}).want(201, "")
	a.post("/v1/admin/users", bearer(chief.Token), api.UserIn{Username: "SUPPORT", Password: "long enough"}).want(409, "name_taken")
	a.post("/v1/admin/users", bearer(chief.Token), api.UserIn{Username: "usr_x", Password: "long enough"}).want(400, "bad_request")
}
