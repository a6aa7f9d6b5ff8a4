package service

import (
	_ "embed"
	"slices"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// The most common passwords and the words that they are made of: what is tried
// first, everywhere. It is small, because nothing but the first few guesses can
// be made through the limits (see attempts.go), and it stays here: no password,
// nor a part of its hash, is sent to anybody to be looked up.
//
//go:embed passwords.txt
var commonPasswords string

var common = sync.OnceValue(func() map[string]bool {
	words := map[string]bool{}
	for word := range strings.Lines(commonPasswords) {
		words[strings.TrimSpace(word)] = true
	}
	return words
})

// rows are in the order in which fingers and children go through them.
var rows = func() []string {
	list := []string{
		"12345678901234567890", "abcdefghijklmnopqrstuvwxyz", "qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm",
		"azertyuiopqsdfghjklmwxcvbn", "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p", "1q2w3e4r5t6y7u8i9o0p", "!@#$%^&*()",
	}
	for _, row := range slices.Clip(list) {
		back := []rune(row)
		slices.Reverse(back)
		list = append(list, string(back))
	}
	return list
}()

// weakPassword says why a password of sufficient length is among the first
// that anybody would try, or nothing (NIST SP 800-63B section 3.1.1.2: common ones,
// repetitions and sequences, the user's own name). nameKey is the user's.
func weakPassword(password, nameKey string) string {
	folded := strings.ToLower(norm.NFKC.String(password))
	switch {
	case namesake(folded, nameKey):
		return "is little more than the name"
	case isCommon(folded), isCommon(unleet(folded)), isCommon(unleet(letters(folded))) && len(folded)-len(letters(folded)) <= maxAround:
		return "is among the most common ones"
	case repeats(folded):
		return "repeats a few characters"
	case walks(folded):
		return "is a sequence"
	}
	return ""
}

// namesake: what is left beside the name is no more than a year.
func namesake(folded, name string) bool {
	n := len([]rune(name))
	if n < 3 || !strings.Contains(folded, name) {
		return folded == name
	}
	return len([]rune(strings.ReplaceAll(folded, name, ""))) <= 4
}

// isCommon: a word of the list, also twice, or with up to six digits and signs
// around it.
func isCommon(s string) bool {
	core := letters(s)
	if words := common(); words[s] || words[core] && len(s)-len(core) <= maxAround {
		return true
	}
	half := len(s) / 2
	return len(s)%2 == 0 && s[:half] == s[half:] && common()[s[:half]]
}

// maxAround is how many bytes around a common word make it no better.
const maxAround = 6

// letters leaves off what stands before the first letter and behind the last.
func letters(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return !unicode.IsLetter(r) })
}

// unleet reads the digits and signs that stand for letters.
func unleet(s string) string {
	return strings.NewReplacer("0", "o", "1", "i", "3", "e", "4", "a", "5", "s", "7", "t", "@", "a", "$", "s", "!", "i").Replace(s)
}

// repeats: one to four characters, over and over.
func repeats(s string) bool {
	r := []rune(s)
	for period := 1; period <= 4 && 2*period <= len(r); period++ {
		same := true
		for i := period; i < len(r) && same; i++ {
			same = r[i] == r[i-period]
		}
		if same {
			return true
		}
	}
	return false
}

// walks: made of pieces of rows, four characters each on the average or more.
func walks(s string) bool {
	pieces, r := 0, []rune(s)
	for i := 0; i < len(r); pieces++ {
		n := 1
		for n < len(r)-i && slices.ContainsFunc(rows, func(row string) bool { return strings.Contains(row, string(r[i:i+n+1])) }) {
			n++
		}
		i += n
	}
	return pieces*4 <= len(r)
}
