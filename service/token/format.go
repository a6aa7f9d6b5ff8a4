package token

// Format is a version of the token: what an identifier begins with, and with it
// the purpose under which root keys are derived. The zero value is the one that
// tokens are minted in.
//
// Another format is another row of the table and, if it is to be minted in, the
// first one. The earlier one stays in the table for as long as its tokens live,
// so that they verify through the overlap: nobody is logged out by an upgrade.
// Where a row is not enough (another construction), the table is where it shows.
type Format uint8

// Minting is the format in which tokens are minted.
const Minting Format = 0

// formats is the table. A name has two characters. Nothing writes it: a test of
// this package puts an earlier format behind the row that is there.
var formats = []struct {
	name  string // of the identifier, up to its first point
	label string // the salt of the root keys' derivation (package keyring)
}{
	{"m1", "macaroond/root-key/v1"},
}

// Formats is how many there are: 0 is the minting one, others are earlier ones.
func Formats() int { return len(formats) }

// FormatNamed finds a format by its name, such as m1.
func FormatNamed(name string) (Format, bool) {
	for i := range formats {
		if formats[i].name == name {
			return Format(i), true
		}
	}
	return 0, false
}

// String is the name.
func (f Format) String() string { return formats[f].name }

// Label is the purpose that root keys of the format are derived under.
func (f Format) Label() string { return formats[f].label }

// FormatSet is some formats. The zero value has none.
type FormatSet uint8

// Has reports whether the format is one of them.
func (s FormatSet) Has(f Format) bool { return s&(1<<f) != 0 }

// With is the set and one more.
func (s FormatSet) With(f Format) FormatSet { return s | 1<<f }
