package uuid

import (
	"bytes"
	"slices"
	"strings"
)

// Replacement puts new identifiers in the place of old ones. All of a kind have one
// length, so that a file does not change its own.
type Replacement struct{ pairs []pair }

type pair struct {
	old, new string
	alone    bool // a dash beside it makes it a part of something longer
	folded   bool // upper and lower case are one
}

// NewReplacement replaces those of a list. What LVM writes without dashes is replaced, too.
func NewReplacement(list []Change) Replacement {
	var r Replacement
	for _, id := range list {
		if len(id.Old) != len(id.New) || id.Old == "" {
			continue
		}
		r.pairs = append(r.pairs, pair{id.Old, id.New, id.Type == FAT, !id.Type.OfLVM()})
		if id.Type.OfLVM() {
			r.pairs = append(r.pairs, pair{strings.ReplaceAll(id.Old, "-", ""), strings.ReplaceAll(id.New, "-", ""), false, false})
		}
	}
	return r
}

// In returns a content with all identifiers replaced, and whether there were any. Only a
// whole identifier is one, not a part of a longer word.
func (r Replacement) In(content []byte) ([]byte, bool) {
	out := content
	for _, p := range r.pairs {
		// ASCII alone is folded: what is longer in lower case would shift the rest.
		for at := 0; ; {
			i := p.index(content[at:])
			if i < 0 {
				break
			}
			start, end := at+i, at+i+len(p.old)
			if at = start + 1; !p.whole(content, start, end) {
				continue
			}
			if &out[0] == &content[0] {
				out = slices.Clone(content)
			}
			copy(out[start:end], p.new)
		}
	}
	return out, len(out) > 0 && &out[0] != &content[0]
}

// index finds the next place where the old identifier may be.
func (p pair) index(content []byte) int {
	if !p.folded {
		return bytes.Index(content, []byte(p.old))
	}
	// Identifiers are in one case nearly always.
	lower, upper := bytes.Index(content, []byte(strings.ToLower(p.old))), bytes.Index(content, []byte(strings.ToUpper(p.old)))
	if lower < 0 || upper >= 0 && upper < lower {
		return upper
	}
	return lower
}

// whole tells whether what stands at a place ends where the identifier does.
func (p pair) whole(content []byte, start, end int) bool {
	part := func(i int) bool {
		if i < 0 || i >= len(content) {
			return false
		}
		c := content[i]
		switch {
		case p.alone:
			return c == '-' || isDigit(c) || isLetter(c)
		case p.folded: // a word may stand before a UUID: gnulinux-advanced-UUID
			return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f'
		}
		// LVM's are joined to one another in the names of devices.
		return false
	}
	return !part(start-1) && !part(end)
}

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
