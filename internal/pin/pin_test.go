package pin

import (
	"strings"
	"testing"

	"herdbook/internal/digest"
)

func TestFormatIsStableAndReadBack(t *testing.T) {
	a := Pin{Name: "apt http://a bookworm", URL: "http://a/dists/bookworm/InRelease", Checksum: digest.Of([]byte("a")).Checksum(), Dated: "Sat, 06 Sep 2025 11:22:40 UTC"}
	b := Pin{Name: "apt http://b trixie", URL: "http://b/dists/trixie/InRelease", Checksum: digest.Of([]byte("b")).Checksum()}
	c := Pin{
		Name: TemplateName("http://c/", "debian-12", "testing", "x86_64"), URL: "http://c/images/debian-12.xz", Checksum: digest.Checksum("sha512:" + strings.Repeat("0f", 64)),
		Dated: "today", Revision: 5, Format: "raw", Size: 6 << 30,
	}
	one, two := Lock{}.With(a).With(b).With(c), Lock{}.With(c).With(b).With(a)
	if string(one.Format()) != string(two.Format()) {
		t.Errorf("the order of With shows in the text:\n%s\n%s", one.Format(), two.Format())
	}
	back, err := Parse(one.Format())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Pin{a, b, c} {
		if got, ok := back.Get(want.Name); !ok || got != want {
			t.Errorf("read back %+v, want %+v", got, want)
		}
	}
	if _, ok := one.Only([]string{b.Name}).Get(a.Name); ok {
		t.Error("Only kept a name that was not listed")
	}
}

func TestWithAndWithoutLeaveTheirReceiverAlone(t *testing.T) {
	l := Lock{}.With(Pin{Name: "x", URL: "u", Checksum: digest.Of(nil).Checksum()})
	l.With(Pin{Name: "y", URL: "u", Checksum: digest.Of(nil).Checksum()})
	if _, ok := l.Get("y"); ok {
		t.Error("With changed the lock it was called on")
	}
	without := l.With(Pin{Name: "y", URL: "u", Checksum: digest.Of(nil).Checksum()}).Without([]string{"x", "z"})
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
		{"bad digest", header + "\n\nx\n\tsha256 abc\n", "line 4: parse checksum"},
		{"bad checksum", header + "\n\nx\n\tsha512 " + sum + "\n", "line 4: parse checksum"},
		{"bad revision", header + "\n\nx\n\trevision -1\n", "line 4: revision: \"-1\""},
		{"bad size", header + "\n\nx\n\tsize 6G\n", "line 4: size: \"6G\""},
		{"half a pin", header + "\n\nx\n\turl u\n", "at the end: x: url or checksum is missing"},
		{"twice", header + "\nx\n\turl u\n\tsha256 " + sum + "\nx\n\turl u\n\tsha256 " + sum + "\n", "x stands twice"},
	} {
		if _, err := Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q in it", c.name, err, c.want)
		}
	}
}

// The text is for people, who commit it.
func TestTheTextOfATemplate(t *testing.T) {
	got := Lock{}.With(Pin{
		Name: TemplateName("https://images.example.org/", "web", "", ""), URL: "https://images.example.org/images/web.qcow2",
		Checksum: digest.Checksum("sha512:" + strings.Repeat("0f", 64)), Revision: 5, Format: "qcow2", Size: 1 << 30,
	}).Format()
	want := header + `

template https://images.example.org web
	url      https://images.example.org/images/web.qcow2
	sha512   ` + strings.Repeat("0f", 64) + `
	revision 5
	format   qcow2
	size     1073741824
`
	if string(got) != want {
		t.Errorf("the text is\n%s\nwant\n%s", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Lock{}.With(Pin{Name: "x", URL: "u", Checksum: digest.Of(nil).Checksum(), Dated: "d"}).Format())
	f.Add(Lock{}.With(Pin{Name: "t", URL: "u", Checksum: digest.Checksum("sha512:" + strings.Repeat("0f", 64)), Revision: 1, Format: "raw", Size: 1}).Format())
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
