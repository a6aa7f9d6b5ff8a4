package service

import (
	"strings"
	"testing"
)

func TestWeakPasswords(t *testing.T) {
	if n := len(common()); n < 500 || common()[""] {
		t.Fatalf("%d common passwords", n)
	}
	for _, row := range []struct {
		password, why string
	}{
		{"password", "common"},
		{"PassWord", "common"},
		{"password1234", "common"},
		{"P@ssw0rd", "common"},
		{"p4$$w0rd!!", "common"},
		{"sunshine", "common"},
		{"2024sunshine!", "common"},
		{"dragondragon", "common"},
		{"ｐａｓｓｗｏｒｄ", "common"}, // full-width, NFKC
		{"iloveyou", "common"},
		{"aaaaaaaa", "repeats"},
		{"éééééééé", "repeats"},
		{"xyxyxyxyx", "repeats"},
		{"a1b!a1b!a1b!", "repeats"},
		{"abcdefgh", "sequence"},
		{"87654321", "common"},
		{"45678901", "sequence"},
		{"lkjhgfdsa", "sequence"},
		{"qwertzuio", "sequence"},
		{"abcd4321", "sequence"},
		{"tyuighjk", "sequence"},
		{"magdalena", "name"},
		{"Magdalena1987", "name"},
		{"--magdalena", "name"},
		{"correct horse battery staple", ""},
		{"long enough", ""},
		{"dragons like 7 sandwiches", ""},
		{"magdalena has two left shoes", ""},
		{"vQ3-kd9X", ""},
		{"passwordless", ""},
		{"abcxdefy", ""},
		{"wrong guess", ""},
	} {
		got := weakPassword(row.password, "magdalena")
		if row.why == "" && got != "" || row.why != "" && !strings.Contains(got, row.why) {
			t.Errorf("%q: %q, want %q", row.password, got, row.why)
		}
	}
	if weakPassword("li 88 oak", "li") != "" || weakPassword("li", "li") == "" {
		t.Error("a short name is looked for inside")
	}
}
