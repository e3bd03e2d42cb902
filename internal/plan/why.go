package plan

import "slices"

// Change is a line that a key is made of, and what became of it since another key
// was made.
type Change struct {
	Sign byte   // ' ' in both, '+' only now, '-' only before
	Line string // as Line.String gives it
}

// Changes compares the lines of a key with those of one before, in the order of
// the lines now; what is gone stands before what took its place.
func Changes(before []string, now []Line) []Change {
	var changes []Change
	rest := before
	for i, line := range now {
		text := line.String()
		at := slices.Index(rest, text)
		if at < 0 {
			for len(rest) > 0 && !slices.ContainsFunc(now[i:], func(l Line) bool { return l.String() == rest[0] }) {
				changes, rest = append(changes, Change{'-', rest[0]}), rest[1:]
			}
			changes = append(changes, Change{'+', text})
			continue
		}
		for _, gone := range rest[:at] {
			changes = append(changes, Change{'-', gone})
		}
		changes, rest = append(changes, Change{' ', text}), rest[at+1:]
	}
	for _, gone := range rest {
		changes = append(changes, Change{'-', gone})
	}
	return changes
}
