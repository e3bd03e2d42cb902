package pin

import (
	"strings"
	"testing"

	"herdbook/internal/digest"
)

func TestFormatIsStableAndReadBack(t *testing.T) {
	a := Pin{Name: "apt http://a bookworm", URL: "http://a/dists/bookworm/InRelease", Digest: digest.Of([]byte("a")), Dated: "Sat, 06 Sep 2025 11:22:40 UTC"}
	b := Pin{Name: "apt http://b trixie", URL: "http://b/dists/trixie/InRelease", Digest: digest.Of([]byte("b"))}
	one, two := Lock{}.With(a).With(b), Lock{}.With(b).With(a)
	if string(one.Format()) != string(two.Format()) {
		t.Errorf("the order of With shows in the text:\n%s\n%s", one.Format(), two.Format())
	}
	back, err := Parse(one.Format())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Pin{a, b} {
		if got, ok := back.Get(want.Name); !ok || got != want {
			t.Errorf("read back %+v, want %+v", got, want)
		}
	}
	if _, ok := one.Only([]string{b.Name}).Get(a.Name); ok {
		t.Error("Only kept a name that was not listed")
	}
}

func TestWithAndWithoutLeaveTheirReceiverAlone(t *testing.T) {
	l := Lock{}.With(Pin{Name: "x", URL: "u", Digest: digest.Of(nil)})
	l.With(Pin{Name: "y", URL: "u", Digest: digest.Of(nil)})
	if _, ok := l.Get("y"); ok {
		t.Error("With changed the lock it was called on")
	}
	without := l.With(Pin{Name: "y", URL: "u", Digest: digest.Of(nil)}).Without([]string{"x", "z"})
	if _, ok := without.Get("x"); ok {
		t.Error("Without kept a name that was listed")
	}
	if _, ok := without.Get("y"); !ok {
		t.Error("Without dropped a name that was not listed")
	}
	if _, ok := l.Without(nil).Get("x"); !ok || len(Lock{}.Without([]string{"x"}).pins) != 0 {
		t.Error("Without nothing, or of nothing")
	}
}

func TestParseErrorsNameTheLine(t *testing.T) {
	sum := string(digest.Of(nil))
	for _, c := range []struct{ name, text, want string }{
		{"no header", "apt x\n", "line 1: want"},
		{"field first", header + "\n\turl x\n", "line 2: a field before any name"},
		{"unknown field", header + "\n\nx\n\tcolour red\n", `line 4: unknown field "colour"`},
		{"bad digest", header + "\n\nx\n\tsha256 abc\n", "line 4: parse digest"},
		{"half a pin", header + "\n\nx\n\turl u\n", "at the end: x: url or sha256 is missing"},
		{"twice", header + "\nx\n\turl u\n\tsha256 " + sum + "\nx\n\turl u\n\tsha256 " + sum + "\n", "x stands twice"},
	} {
		if _, err := Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q in it", c.name, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Lock{}.With(Pin{Name: "x", URL: "u", Digest: digest.Of(nil), Dated: "d"}).Format())
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(l.Format())
		if err != nil || string(again.Format()) != string(l.Format()) {
			t.Fatalf("not stable: %v\n%s\n%s", err, l.Format(), again.Format())
		}
	})
}
