package bucket

import (
	"strings"
	"testing"
)

func TestNamesStayBelowTheRepository(t *testing.T) {
	for _, name := range []string{"index", "images/web-1.qcow2", "a..b/c..", "streams/v1/index.json", "ü"} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{
		"", ".", "..", "../x", "a/../x", "a/./x", "/etc/passwd", "a//b", "a/", ".lock", "a/.hidden", "a\\b", "a\x00b", "a\nb", "\xff",
		strings.Repeat("x/", maxName/2) + "x", strings.Repeat("x", maxElement+1),
	} {
		if err := CheckName(name); err == nil {
			t.Errorf("%q may be a name", name)
		}
	}
}
