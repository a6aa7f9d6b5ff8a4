package caveats

// Outcome is what checking one caveat found. Anything but [Held] is a refusal.
type Outcome uint8

const (
	// Unknown: the caveat is not understood, by its name or by its argument.
	// It is the zero value, so that an outcome nobody set refuses.
	Unknown Outcome = iota
	// Held: the restriction is met.
	Held
	// Expired: a time-before has passed.
	Expired
	// NotYetValid: a time-after has not come.
	NotYetValid
	// WrongAudience: the token is for another audience, or the verifier named none.
	WrongAudience
	// Refused: any other caveat does not hold, or a fact that it needs is not known.
	Refused
)

// String gives the stable code that a decision carries for this outcome, and
// "held" for [Held]. A number that is no Outcome reads as [Unknown].
func (o Outcome) String() string {
	switch o {
	case Held:
		return "held"
	case Expired:
		return "expired"
	case NotYetValid:
		return "not_yet_valid"
	case WrongAudience:
		return "wrong_audience"
	case Refused:
		return "refused"
	default:
		return "unknown_caveat"
	}
}
