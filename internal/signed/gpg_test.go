package signed

import (
	"strings"
	"testing"
	"time"

	"herdbook/internal/peer"
)

func TestAKeyOfGnuPGSigns(t *testing.T) {
	g := newGnuPG(t)
	t.Setenv("GNUPGHOME", g.home)
	for _, algorithm := range []string{"rsa2048", "ed25519"} {
		public, _ := g.generate(algorithm, algorithm, "", "never")
		keys, err := ReadKeys(public)
		peer.Must(t, err)
		now := time.Now().Add(time.Hour).Truncate(time.Second) // by whatever clock
		s, err := NewSigner([]byte("gpg:"+Fingerprints(keys)[0]+"\n"), now)
		peer.Must(t, err)
		for text := range texts {
			message, err := s.Sign([]byte(text), now)
			peer.Must(t, err)
			for _, keys := range []Keys{keys, s.Keys()} {
				if got, err := Verify(message, keys, now); err != nil || string(got) != want(text) {
					t.Errorf("%s: %.50q: %.50q %v", algorithm, text, got, err)
				}
			}
			if !strings.Contains(text, "two") {
				continue
			}
			if status, err := g.run(string(message), "--status-fd", "1", "--verify", "-"); err != nil || !strings.Contains(status, "VALIDSIG "+s.Fingerprint()) {
				t.Errorf("%s: gpg does not verify it: %v\n%s", algorithm, err, status)
			}
		}
	}
}

func TestUnfitKeysOfGnuPGAreRefused(t *testing.T) {
	g := newGnuPG(t)
	t.Setenv("GNUPGHOME", g.home)
	public, _ := g.generate("curve", "nistp256", "", "never")
	keys, err := ReadKeys(public)
	peer.Must(t, err)
	for name, want := range map[string]string{
		"gpg:" + Fingerprints(keys)[0]:       "want RSA or Ed25519",
		"gpg:" + strings.Repeat("0123", 10):  "gpg has no such key",
		"gpg:":                               "use signing key gpg:",
		"gpg:me@example.org":                 "use signing key gpg:me@example.org",
		"gpg:--output=/tmp/evil":             "use signing key gpg:--output",
		"gpg:" + strings.Repeat("0123", 100): "use signing key gpg:",
	} {
		if _, err := NewSigner([]byte(name), time.Now()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := NewSigner([]byte("gpg:"+Fingerprints(keys)[0]), time.Now()); err == nil || !strings.Contains(err.Error(), "apt-get install gnupg") {
		t.Error(err)
	}
}
