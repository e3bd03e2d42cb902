package signed

import (
	"bytes"
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"herdbook/internal/peer"
)

// detached signs a text beside it.
func detached(t testing.TB, s *Signer, text string) (binary, armour []byte) {
	t.Helper()
	config := &packet.Config{DefaultHash: crypto.SHA512, Time: func() time.Time { return noon }}
	var a, b bytes.Buffer
	peer.Must(t, openpgp.DetachSign(&a, s.entity, strings.NewReader(text), config))
	peer.Must(t, openpgp.ArmoredDetachSign(&b, s.entity, strings.NewReader(text), config))
	return a.Bytes(), b.Bytes()
}

func TestVerifyDetached(t *testing.T) {
	s, other := newSigner(t, "images"), newSigner(t, "images")
	binary, armour := detached(t, s, "sums\n")
	foreign, _ := detached(t, other, "sums\n")
	public, err := s.PublicKey()
	peer.Must(t, err)
	for name, c := range map[string]struct {
		text      string
		signature []byte
		want      string // "" is success
	}{
		"binary":          {"sums\n", binary, ""},
		"armoured":        {"sums\n", armour, ""},
		"blanks before":   {"sums\n", append([]byte("\n\n"), armour...), ""},
		"another text":    {"sums \n", binary, "bad signature"},
		"another's, too":  {"sums\n", append(foreign, binary...), ""},
		"another key":     {"sums\n", foreign, "bad signature"},
		"nothing":         {"sums\n", nil, "bad signature"},
		"a page":          {"sums\n", []byte("<html>"), "bad signature"},
		"a key":           {"sums\n", public, "PUBLIC KEY"},
		"half a one":      {"sums\n", armour[:len(armour)/2], "signature"},
		"the header only": {"sums\n", []byte("-----BEGIN PGP SIGNATURE-----"), "read the signature"},
	} {
		err := VerifyDetached([]byte(c.text), c.signature, publicKeys(t, s), noon)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if err := VerifyDetached([]byte("sums\n"), foreign, s.Keys(), noon); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("another key: %v", err)
	}
	if err := VerifyDetached([]byte("tsum\n"), binary, s.Keys(), noon); errors.Is(err, ErrUnknownKey) {
		t.Errorf("another text: %v", err)
	}
}

// As distributions do it.
func TestWeVerifyWhatGnuPGSignsBesideIt(t *testing.T) {
	g := newGnuPG(t)
	public, _ := g.generate("gnupg <x@example.org>", "rsa3072", "", "0")
	keys, err := ReadKeys(public)
	peer.Must(t, err)
	for _, options := range [][]string{{"--detach-sign"}, {"--detach-sign", "--armor"}, {"--detach-sign", "--textmode", "--armor"}} {
		name := filepath.Join(t.TempDir(), "SHA256SUMS")
		peer.Must(t, os.WriteFile(name, []byte("sums\nof files\n"), 0o644))
		g.must("", append(options, "--output", name+".gpg", name)...)
		signature, err := os.ReadFile(name + ".gpg")
		peer.Must(t, err)
		if err := VerifyDetached([]byte("sums\nof files\n"), signature, keys, time.Now()); err != nil {
			t.Errorf("%q: %v", options, err)
		}
		if err := VerifyDetached([]byte("sums\nof filez\n"), signature, keys, time.Now()); err == nil {
			t.Errorf("%q: verifies another text", options)
		}
	}
}

func FuzzVerifyDetached(f *testing.F) {
	s := newSigner(f, "x")
	binary, armour := detached(f, s, "text")
	f.Add([]byte("text"), binary)
	f.Add([]byte("text"), armour)
	f.Fuzz(func(t *testing.T, text, signature []byte) {
		// Text signatures take the ends of lines for the same, these are none.
		if err := VerifyDetached(text, signature, s.Keys(), noon); err == nil && string(text) != "text" {
			t.Errorf("verifies %q", text)
		}
	})
}
