package digest

import (
	"errors"
	"strings"
	"testing"
)

func TestParseChecksum(t *testing.T) {
	short, long := strings.Repeat("0f", 32), strings.Repeat("0f", 64)
	for given, want := range map[string]Checksum{
		short:                                  Checksum("sha256:" + short),
		long:                                   Checksum("sha512:" + long),
		"sha256:" + strings.ToUpper(short):     Checksum("sha256:" + short),
		"sha512:" + long:                       Checksum("sha512:" + long),
		"sha512:" + short:                      "",
		"md5:" + strings.Repeat("0f", 16):      "",
		strings.Repeat("0g", 32):               "",
		"":                                     "",
		"sha256:":                              "",
		"sha256:" + strings.Repeat("\xff", 64): "",
	} {
		got, err := ParseChecksum(given)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", given, got, err)
		}
		if got.IsSHA256() != strings.HasPrefix(string(want), "sha256:") {
			t.Errorf("%q is of SHA-256: %v", got, got.IsSHA256())
		}
	}
}

func TestVerify(t *testing.T) {
	c := Of([]byte("herd")).Checksum()
	if err := c.Verify(strings.NewReader("herd")); err != nil {
		t.Error(err)
	}
	for _, other := range []string{"", "her", "herds"} {
		if err := c.Verify(strings.NewReader(other)); !errors.Is(err, ErrMismatch) {
			t.Errorf("%q: %v", other, err)
		}
	}
	// As sha512sum says.
	long, err := ParseChecksum("02534ec8db934f65518d39ac1a2dfcd99f1a39c57dee592347aa46aead9fcc19" +
		"983f2a3ae445dcbf38e55ac88b31dfd3620c4a4a34efed14c91b7d5611459593")
	if err != nil {
		t.Fatal(err)
	}
	if err := long.Verify(strings.NewReader("herd")); err != nil {
		t.Error(err)
	}
	if err := long.Verify(strings.NewReader("herds")); !errors.Is(err, ErrMismatch) {
		t.Error(err)
	}
	if err := Checksum("").Verify(strings.NewReader("")); err == nil || errors.Is(err, ErrMismatch) {
		t.Errorf("no checksum at all: %v", err)
	}
}
