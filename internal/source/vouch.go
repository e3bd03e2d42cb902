package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"herdbook/internal/digest"
	"herdbook/internal/pin"
	"herdbook/internal/signed"
	"herdbook/internal/tree"
)

// maxSignature bounds a signature beside a document, in bytes.
const maxSignature = 64 << 10

// vouch makes sure of the digests that a tree's document tells, and returns the pin
// of the document or of what lists it, which is empty if there is none. In this order:
//
//   - Checksums for both files in the definition need nobody else.
//   - The signed Release of a Debian tree's suite lists the document.
//   - A signature that one of the keys made lies beside the document.
//   - The tree lies on this machine, or the document came by HTTPS.
//
// A wrong signature, and a document that is not the signed one, are errors however
// it came.
func (f *Fetcher) vouch(ctx context.Context, i Installer, t tree.Tree, now time.Time) (pin.Pin, error) {
	if t.Document == "" {
		return pin.Pin{}, nil
	}
	known := pin.Pin{URL: within(i.Location, t.Document), Checksum: digest.Of(t.Text).Checksum()}
	if i.Kernel != "" && i.Initrd != "" {
		return known, nil
	}
	release, listed, noRelease := f.listed(ctx, i, t, now)
	if release.URL != "" {
		known = release
	}
	if listed || noRelease != nil && !isAbsent(noRelease) {
		return known, trusting(noRelease, i, t)
	}
	signed, noSignature := f.signed(ctx, i, t, now)
	if signed || noSignature != nil && !isAbsent(noSignature) {
		return known, trusting(noSignature, i, t)
	}
	if isLocal(i.Location) || isHTTPS(i.Location) {
		return known, nil
	}
	err := unvouched(within(i.Location, t.Document))
	for _, refused := range []error{noRelease, noSignature} {
		if errors.Is(refused, errRefused) {
			err = fmt.Errorf("%w; %w", err, refused)
		}
	}
	return known, err
}

// listed verifies the document of a Debian tree by the Release of its suite, which
// follows every package, too. Neither is there if the tree lies in no archive.
func (f *Fetcher) listed(ctx context.Context, i Installer, t tree.Tree, now time.Time) (release pin.Pin, listed bool, err error) {
	mirror, suite, root, ok := tree.Archive(i.Location)
	if t.Kind != tree.Debian || !ok {
		return pin.Pin{}, false, nil
	}
	r, err := f.release(ctx, Suite{Mirror: mirror, Name: suite, Keyring: i.Keyring}, now)
	if err != nil {
		return pin.Pin{}, false, err
	}
	want, ok := r.files[path.Join(root, t.Document)]
	if got := digest.Of(t.Text); ok && got != want {
		return r.pin, false, fmt.Errorf("%s: %w: SHA-256 %s, want %s as %s tells; a mirror in the middle of an update?",
			within(i.Location, t.Document), digest.ErrMismatch, got, want, r.pin.URL)
	}
	return r.pin, ok, nil
}

// signed verifies the signature beside a tree's document, if there is one. Only
// Debian's trees have keys that are known without a keyring in the definition.
func (f *Fetcher) signed(ctx context.Context, i Installer, t tree.Tree, now time.Time) (bool, error) {
	if t.Signature == "" || i.Keyring == "" && t.Kind != tree.Debian {
		return false, nil
	}
	address := within(i.Location, t.Signature)
	signature, err := f.Get(ctx, address, maxSignature)
	if err != nil {
		return false, err
	}
	keys, err := readKeyring(i.Keyring)
	if err != nil {
		return false, err
	}
	if err := signed.VerifyDetached(t.Text, signature, keys, now); err != nil {
		return false, fmt.Errorf("verify %s: %w", address, err)
	}
	return true, nil
}

// trusting adds which keys sign Ubuntu's trees, if nobody said it.
func trusting(err error, i Installer, t tree.Tree) error {
	unknown := errors.Is(err, signed.ErrUnknownKey) || errors.Is(err, fs.ErrNotExist)
	if unknown && i.Keyring == "" && strings.Contains(t.Kernel.Path, "ubuntu-installer") {
		return fmt.Errorf("%w; for Ubuntu give keyring = %q", err, ubuntuKeyring)
	}
	return err
}

// unvouched is the error of what nobody stands for.
func unvouched(address string) error {
	instead := ", or an https address"
	if isHTTPS(address) {
		instead = "" // its document does not tell this one
	}
	return fmt.Errorf("nothing signed vouches for %s: give kernel_checksum and initrd_checksum%s", address, instead)
}
