package digest

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

const empty = Digest("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")

func TestOf(t *testing.T) {
	if got := Of(nil); got != empty {
		t.Errorf("Of(nil) = %s, want %s", got, empty)
	}
	got, n, err := OfReader(iotest.OneByteReader(strings.NewReader("abc")))
	if err != nil || n != 3 || got != Of([]byte("abc")) {
		t.Errorf("OfReader = %s, %d, %v", got, n, err)
	}
	if got.Short() != string(got[:12]) || Digest("").Short() != "" {
		t.Error("Short is not the first twelve digits")
	}
}

func TestParse(t *testing.T) {
	if d, err := Parse(string(empty)); err != nil || d != empty {
		t.Errorf("Parse(%s) = %s, %v", empty, d, err)
	}
	for _, bad := range []string{"", "abc", strings.ToUpper(string(empty)), "../../../" + string(empty[9:]), string(empty) + "0"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("Parse(%q) accepts it", bad)
		}
	}
}

func TestVerifier(t *testing.T) {
	want := Of([]byte("herd"))
	for _, c := range []struct {
		name, content string
		size          int64
		ok            bool
	}{
		{"right", "herd", 4, true},
		{"right, size unknown", "herd", -1, true},
		{"other bytes", "hard", 4, false},
		{"cut short", "her", 4, false},
		{"too long", "herds", 4, false},
		{"empty", "", 4, false},
	} {
		for name, wrap := range map[string]func(io.Reader) io.Reader{"plain": func(r io.Reader) io.Reader { return r }, "eof with data": iotest.DataErrReader} {
			_, err := io.ReadAll(NewVerifier(wrap(strings.NewReader(c.content)), want, c.size))
			if c.ok && err != nil || !c.ok && !errors.Is(err, ErrMismatch) {
				t.Errorf("%s, %s: %v", c.name, name, err)
			}
		}
	}
}

func TestWriterDigestsWhatWasTaken(t *testing.T) {
	var b strings.Builder
	w := NewWriter(&b)
	if _, err := io.WriteString(w, "herd"); err != nil {
		t.Fatal(err)
	}
	if w.Digest() != Of([]byte("herd")) || w.Size() != 4 || b.String() != "herd" {
		t.Errorf("%s %d %q", w.Digest(), w.Size(), b.String())
	}
}
