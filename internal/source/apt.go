package source

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"herdbook/internal/digest"
	"herdbook/internal/pin"
	"herdbook/internal/signed"
)

// maxRelease bounds an InRelease file, in bytes; Debian's have 150 KiB.
const maxRelease = 8 << 20

// DebianKeyring is where Debian and its descendants keep the keys of Debian's
// archive (package debian-archive-keyring).
const DebianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// Suite names one suite of an apt repository.
type Suite struct {
	Mirror  string // base URL
	Name    string // such as bookworm
	Keyring string // path of the keys that may sign it; "" is DebianKeyring
}

// PinName is the suite's name in the lock file.
func (s Suite) PinName() string {
	return pin.AptName(s.Mirror, s.Name)
}

// Release fetches the suite's InRelease, verifies its signature at the time
// now, and pins it: its digest stands for every package the suite holds.
func (f *Fetcher) Release(ctx context.Context, s Suite, now time.Time) (pin.Pin, error) {
	keyring, err := readKeyring(s.Keyring)
	if err != nil {
		return pin.Pin{}, fmt.Errorf("pin %s: %w", s.PinName(), err)
	}
	address := join(s.Mirror, "dists/"+s.Name+"/InRelease")
	text, err := f.Get(ctx, address, maxRelease)
	if errors.Is(err, ErrNotFound) {
		return pin.Pin{}, fmt.Errorf("pin %s: %w; does the mirror carry the suite %q?", s.PinName(), err, s.Name)
	}
	if err != nil {
		return pin.Pin{}, fmt.Errorf("pin %s: %w", s.PinName(), err)
	}
	release, err := verifyRelease(text, keyring, now)
	if err != nil {
		return pin.Pin{}, fmt.Errorf("pin %s: verify %s: %w", s.PinName(), address, err)
	}
	if !release.names(s.Name) {
		return pin.Pin{}, fmt.Errorf("pin %s: %s calls itself %s (%s), not %s", s.PinName(), address, release.suite, release.codename, s.Name)
	}
	if until := release.validUntil; !until.IsZero() && now.After(until) {
		return pin.Pin{}, fmt.Errorf("pin %s: %s was valid until %s: a stale mirror, or a wrong clock on this machine", s.PinName(), address, until.Format(time.RFC1123))
	}
	return pin.Pin{Name: s.PinName(), URL: address, Digest: digest.Of(text), Dated: release.date}, nil
}

func readKeyring(path string) (signed.Keys, error) {
	if path == "" {
		path = DebianKeyring
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && path == DebianKeyring {
		return nil, fmt.Errorf("read the archive's keys: %w; install the package debian-archive-keyring or set keyring", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the archive's keys: %w", err)
	}
	keys, err := signed.ReadKeys(text)
	if err != nil {
		return nil, fmt.Errorf("read the archive's keys %s: %w", path, err)
	}
	return keys, nil
}

// release is what a verified InRelease says of itself.
type release struct {
	suite, codename, date string
	validUntil            time.Time
}

func (r release) names(suite string) bool {
	// A suite may carry a path, as in bookworm/updates.
	name, _, _ := strings.Cut(suite, "/")
	return name == r.suite || name == r.codename || suite == r.codename
}

func verifyRelease(untrusted []byte, keys signed.Keys, now time.Time) (release, error) {
	text, err := signed.Verify(untrusted, keys, now)
	if err != nil {
		return release{}, fmt.Errorf("%w; is this address a package mirror, and the keyring up to date?", err)
	}
	return readRelease(text)
}

func readRelease(text []byte) (release, error) {
	var r release
	scanner := bufio.NewScanner(bytes.NewReader(text))
	for scanner.Scan() {
		key, value, ok := strings.Cut(scanner.Text(), ":")
		if !ok || strings.HasPrefix(key, " ") {
			continue
		}
		value = strings.TrimSpace(value)
		switch key {
		case "Suite":
			r.suite = value
		case "Codename":
			r.codename = value
		case "Date":
			r.date = value
		case "Valid-Until":
			until, err := time.Parse(time.RFC1123, value)
			if err != nil {
				return release{}, fmt.Errorf("read Valid-Until: %w", err)
			}
			r.validUntil = until
		}
	}
	return r, scanner.Err()
}
