package agent

import (
	"bytes"
	"testing"

	"herdbook/internal/guest"
)

func TestWithoutStart(t *testing.T) {
	record := func(id string, fill byte) []byte {
		r := bytes.Repeat([]byte{fill}, recordSize)
		copy(r[recordID:recordID+idSize], append([]byte(id), 0, 0, 0, 0))
		return r
	}
	a, b, ours := record("1", 1), record("hbx", 2), record(guest.InittabID, 3)
	for name, c := range map[string]struct{ text, want [][]byte }{
		"nothing":       {nil, nil},
		"others":        {[][]byte{a, b}, [][]byte{a, b}},
		"ours":          {[][]byte{a, ours, b, ours}, [][]byte{a, b}},
		"part of one":   {[][]byte{ours, a, ours[:100]}, [][]byte{a, ours[:100]}},
		"less than one": {[][]byte{ours[:recordID+idSize]}, [][]byte{ours[:recordID+idSize]}},
	} {
		if got := withoutStart(bytes.Join(c.text, nil)); !bytes.Equal(got, bytes.Join(c.want, nil)) {
			t.Errorf("%s: %d bytes", name, len(got))
		}
	}
}
