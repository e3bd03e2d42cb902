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

// maxRelease bounds an index of packages, in bytes; Debian's InRelease have 150 KiB.
const maxRelease = 8 << 20

// DebianKeyring is where Debian and its descendants keep the keys of Debian's
// archive (package debian-archive-keyring).
const DebianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// ubuntuKeyring is where Ubuntu keeps the keys of its archive (package
// ubuntu-keyring).
const ubuntuKeyring = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"

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
	r, err := f.release(ctx, s, now)
	if err != nil {
		return pin.Pin{}, fmt.Errorf("pin %s: %w", s.PinName(), err)
	}
	return r.pin, nil
}

// release fetches and verifies the suite's InRelease.
func (f *Fetcher) release(ctx context.Context, s Suite, now time.Time) (release, error) {
	address := join(s.Mirror, "dists/"+s.Name+"/InRelease")
	text, err := f.Get(ctx, address, maxRelease)
	if errors.Is(err, ErrNotFound) {
		return release{}, fmt.Errorf("%w; does the mirror carry the suite %q?", err, s.Name)
	}
	if err != nil {
		return release{}, err
	}
	keyring, err := readKeyring(s.Keyring)
	if err != nil {
		return release{}, err
	}
	r, err := verifyRelease(text, keyring, now)
	if err != nil {
		return release{}, fmt.Errorf("verify %s: %w", address, err)
	}
	if !r.names(s.Name) {
		return release{}, fmt.Errorf("%s calls itself %s (%s), not %s", address, r.suite, r.codename, s.Name)
	}
	if until := r.validUntil; !until.IsZero() && now.After(until) {
		return release{}, fmt.Errorf("%s was valid until %s: a stale mirror, or a wrong clock on this machine", address, until.Format(time.RFC1123))
	}
	r.pin = pin.Pin{Name: s.PinName(), URL: address, Checksum: digest.Of(text).Checksum(), Dated: r.date}
	return r, nil
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
	files                 map[string]digest.Digest // the SHA-256 of what the suite holds, by path below it
	pin                   pin.Pin
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
	r := release{files: map[string]digest.Digest{}}
	scanner := bufio.NewScanner(bytes.NewReader(text))
	list := ""
	for scanner.Scan() {
		if strings.HasPrefix(scanner.Text(), " ") {
			r.file(list, scanner.Text())
			continue
		}
		key, value, ok := strings.Cut(scanner.Text(), ":")
		if !ok {
			continue
		}
		list, value = key, strings.TrimSpace(value)
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

// file takes a line of a list: digest, size, path.
func (r *release) file(list, line string) {
	fields := strings.Fields(line)
	if list != "SHA256" || len(fields) != 3 {
		return
	}
	if d, err := digest.Parse(fields[0]); err == nil {
		r.files[fields[2]] = d
	}
}
