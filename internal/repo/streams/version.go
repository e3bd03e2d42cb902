package streams

import (
	"cmp"
	"strconv"
	"strings"
)

// isDate is how many digits make a date, of which more would be hours.
const isDate = 8

// compareVersions tells which of two versions is the greater one. Numbers in them
// count as numbers, so that 20260601.10 comes after 20260601.9, where simplestreams'
// own tools and virt-builder compare text. Dates, with hours or without, are compared
// as text.
func compareVersions(a, b string) int {
	whole := strings.Compare(a, b)
	for a != "" && b != "" {
		x, y := digits(a), digits(b)
		if x == "" || y == "" {
			if a[0] != b[0] {
				return cmp.Compare(a[0], b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		a, b = a[len(x):], b[len(y):]
		if c := compareNumbers(x, y); c != 0 {
			return c
		}
	}
	return cmp.Or(cmp.Compare(len(a), len(b)), whole)
}

// compareNumbers compares runs of digits.
func compareNumbers(x, y string) int {
	if len(x) >= isDate && len(y) >= isDate {
		return strings.Compare(x, y)
	}
	x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
	return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y))
}

// digits are those that text begins with.
func digits(text string) string {
	return text[:len(text)-len(strings.TrimLeft(text, "0123456789"))]
}

// revision makes a number of a version: its date or what else it begins with. One
// that is none is 1, as one that is not given.
func revision(version string) int {
	text := digits(version)
	n, err := strconv.ParseInt(text[:min(len(text), isDate)], 10, 32)
	if err != nil {
		return 1
	}
	return int(n)
}
