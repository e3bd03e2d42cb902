package btrfs

import (
	"encoding/binary"
	"errors"
)

var errLZO = errors.New("bad LZO data")

// lzoReader unpacks LZO1X, as the kernel's Documentation/staging/lzo.rst has it.
type lzoReader struct {
	in, out []byte
	n       int // bytes of out that are written
	state   int // literals that the last instruction copied; 4 is more than three
}

// lzo unpacks a whole stream into out, and returns how much it was.
func lzo(out, in []byte) (int, error) {
	l := lzoReader{in: in, out: out}
	if len(in) > 0 && in[0] > 17 { // the first instruction may be a copy without a match
		count := int(in[0]) - 17
		l.in = in[1:]
		if !l.literals(count) {
			return 0, errLZO
		}
		l.state = min(count, 4)
	}
	for {
		end, ok := l.instruction()
		if !ok {
			return 0, errLZO
		}
		if end {
			return l.n, nil
		}
	}
}

// instruction follows one; end is the last.
func (l *lzoReader) instruction() (end, ok bool) {
	op, ok := l.byte()
	if !ok {
		return false, false
	}
	var length, distance int
	tail := op & 3 // literals that follow the match
	switch {
	case op >= 64:
		h, got := l.byte()
		ok = got
		distance = h<<3 + op>>2&7 + 1
		if length = 3 + op>>5&1; op >= 128 {
			length = 5 + op>>5&3
		}
	case op >= 32:
		length, ok = l.length(op&31, 31)
		length += 2
		word := l.word(&ok)
		distance, tail = word>>2+1, word&3
	case op >= 16:
		length, ok = l.length(op&7, 7)
		length += 2
		word := l.word(&ok)
		distance, tail = 16384+(op>>3&1)<<14+word>>2, word&3
		if distance == 16384 {
			return true, ok && length == 3
		}
	case l.state == 0:
		count, got := l.length(op, 15)
		l.state = 4
		return false, got && l.literals(count+3)
	default:
		h, got := l.byte()
		ok = got
		if length, distance = 2, h<<2+op>>2+1; l.state == 4 {
			length, distance = 3, distance+2048
		}
	}
	if !ok || !l.match(distance, length) || !l.literals(tail) {
		return false, false
	}
	l.state = tail
	return false, true
}

func (l *lzoReader) byte() (int, bool) {
	if len(l.in) == 0 {
		return 0, false
	}
	c := l.in[0]
	l.in = l.in[1:]
	return int(c), true
}

func (l *lzoReader) word(ok *bool) int {
	if len(l.in) < 2 {
		*ok = false
		return 0
	}
	word := binary.LittleEndian.Uint16(l.in)
	l.in = l.in[2:]
	return int(word)
}

// length is what an instruction has room for, or else that much and the bytes
// that follow.
func (l *lzoReader) length(short, room int) (int, bool) {
	if short != 0 {
		return short, true
	}
	for length := room; length <= len(l.out); length += 255 {
		c, ok := l.byte()
		if !ok {
			return 0, false
		}
		if c != 0 {
			return length + c, true
		}
	}
	return 0, false
}

func (l *lzoReader) literals(count int) bool {
	if count > len(l.in) || count > len(l.out)-l.n {
		return false
	}
	l.n += copy(l.out[l.n:], l.in[:count])
	l.in = l.in[count:]
	return true
}

// match copies what was written before; it may overlap with what it writes.
func (l *lzoReader) match(distance, length int) bool {
	if distance > l.n || length > len(l.out)-l.n {
		return false
	}
	for range length {
		l.out[l.n] = l.out[l.n-distance]
		l.n++
	}
	return true
}
