package guest

import (
	"math/rand"
	"strings"
	"testing"

	"herdbook/internal/event"
	"herdbook/internal/op"
)

// However output comes in, no secret is in what is reported, and all else is.
func TestNoSecretComesThrough(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	fillings := []int{0, 1, 100, maxLine - 9, maxLine - 3, maxLine, maxLine + 1}
	pieces := []int{1000, 7777, 1 << 15, 1 << 20}
	for range 200 {
		secrets := [][]string{{"HUNTER"}, {"ABC", "XYZABC"}, {"LONGER-THAN-OTHERS", "LONG"}}[random.Intn(3)]
		var text strings.Builder
		for range 1 + random.Intn(6) {
			text.WriteString(strings.Repeat("x", fillings[random.Intn(len(fillings))]))
			text.WriteString(append(secrets, "\n", "")[random.Intn(len(secrets)+2)])
		}
		var got []string
		c := &Chroot{Redact: secrets, Sink: func(e event.Event) { got = append(got, e.Text) }}
		l := c.lines(event.Stdout)
		for rest := text.String(); rest != ""; {
			n := min(len(rest), pieces[random.Intn(len(pieces))])
			if _, err := l.Write([]byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		l.end()
		for _, line := range got {
			if len(line) > maxLine+32 {
				t.Fatalf("a line of %d bytes", len(line))
			}
		}
		want := strings.ReplaceAll(op.Redact(text.String(), secrets), "\n", "")
		if whole := strings.Join(got, ""); whole != want {
			t.Fatalf("%d bytes came through, want %d", len(whole), len(want))
		}
	}
}

// A secret that comes byte by byte, about where a long line is cut.
func TestNoSecretIsCutInHalves(t *testing.T) {
	for at := maxLine - 20; at < maxLine+20; at++ {
		var got []string
		c := &Chroot{Redact: []string{"hunter2"}, Sink: func(e event.Event) { got = append(got, e.Text) }}
		l := c.lines(event.Stdout)
		text := strings.Repeat("x", at) + "hunter2" + strings.Repeat("y", 30)
		_, err := l.Write([]byte(text[:at]))
		for i := at; i < len(text) && err == nil; i++ {
			_, err = l.Write([]byte{text[i]})
		}
		l.end()
		if whole, want := strings.Join(got, ""), op.Redact(text, c.Redact); err != nil || whole != want {
			t.Errorf("at %d: %s, %v", at, strings.TrimLeft(whole, "x"), err)
		}
	}
}
