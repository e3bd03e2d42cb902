package plan

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func shown(changes []Change) string {
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%c%s|", c.Sign, strings.Trim(c.Line[2:], `"`))
	}
	return b.String()
}

func some(text string) (now []Line, before []string) {
	for _, value := range strings.Split(text, "") {
		now = append(now, Line{"l", value})
		before = append(before, Line{"l", value}.String())
	}
	return now, before
}

// Whatever changed, both keys can be read off.
func TestChangesLosesNoLine(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		var b strings.Builder
		for range r.IntN(8) {
			b.WriteByte("abcd"[r.IntN(4)])
		}
		return b.String()
	}
	for range 2000 {
		one, two := text(), text()
		_, before := some(one)
		now, after := some(two)
		var old, young []string
		for _, c := range Changes(before, now) {
			if c.Sign != '+' {
				old = append(old, c.Line)
			}
			if c.Sign != '-' {
				young = append(young, c.Line)
			}
		}
		if !slices.Equal(old, before) || !slices.Equal(young, after) {
			t.Fatalf("%q to %q: %s", one, two, shown(Changes(before, now)))
		}
	}
}
