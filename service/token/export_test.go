package token

// Earlier is a format that was minted in once, as far as this package's tests
// know: it stands in the table behind the row that is there. The row is added
// before any test runs, so everything that a test links against has it.
var Earlier = func() Format {
	formats = append(formats, struct{ name, label string }{"m0", "macaroond/root-key/v0"})
	return Format(len(formats) - 1)
}()
