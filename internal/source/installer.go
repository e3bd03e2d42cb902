package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"path"
	"strings"
	"time"

	"herdbook/internal/digest"
	"herdbook/internal/pin"
	"herdbook/internal/tree"
)

// Installer names the tree of a distribution's installer.
type Installer struct {
	Kind           string          // of the install that it is for: preseed, kickstart or autoyast
	Location       string          // address of the tree
	Kernel, Initrd digest.Checksum // that the definition gives; "" if the tree must vouch for them
	Keyring        string          // path of the keys that may sign the tree's archive; "" is DebianKeyring
}

// PinNames are the names of the tree's pins; the last of them may have none.
func (i Installer) PinNames() []string {
	return []string{
		pin.InstallerName(i.Location, pin.Kernel), pin.InstallerName(i.Location, pin.Initrd), pin.InstallerName(i.Location, pin.Archive),
	}
}

// Installer finds kernel and initrd of a tree and pins them, with the document by
// which the tree is known. The digests come from the tree's own list, which must be
// vouched for: Debian's by the signed Release of its suite. What nothing vouches
// for must have its checksum in the definition, unless it lies on this machine.
func (f *Fetcher) Installer(ctx context.Context, i Installer, now time.Time) ([]pin.Pin, error) {
	pins, err := f.installer(ctx, i, now)
	if err != nil {
		return nil, fmt.Errorf("find the installer in %s: %w", i.Location, err)
	}
	return pins, nil
}

func (f *Fetcher) installer(ctx context.Context, i Installer, now time.Time) ([]pin.Pin, error) {
	t, err := tree.Find(tree.For(i.Kind), i.Location, treeFiles{ctx, f, i.Location})
	if err != nil {
		return nil, err
	}
	var pins []pin.Pin
	vouched := t.Document != ""
	if t.Document != "" {
		document := pin.Pin{URL: join(i.Location, t.Document), Digest: digest.Of(t.Text), Dated: t.Name}
		if t.Kind == tree.Debian {
			if document, vouched, err = f.vouch(ctx, i, t, now); err != nil {
				return nil, err
			}
		}
		document.Name = pin.InstallerName(i.Location, pin.Archive)
		pins = append(pins, document)
	}
	for _, part := range []struct {
		name  pin.Part
		file  tree.File
		given digest.Checksum
	}{{pin.Kernel, t.Kernel, i.Kernel}, {pin.Initrd, t.Initrd, i.Initrd}} {
		if !vouched {
			part.file.Digest = ""
		}
		p, err := f.part(ctx, join(i.Location, part.file.Path), part.file.Digest, part.given)
		if err != nil {
			return nil, fmt.Errorf("pin the %s: %w", part.name, err)
		}
		p.Name = pin.InstallerName(i.Location, part.name)
		pins = append(pins, p)
	}
	return pins, nil
}

// vouch verifies the list of a Debian tree by the signed Release of its suite,
// which is what the tree is known by. It is not vouched for if the tree lies in no
// archive.
func (f *Fetcher) vouch(ctx context.Context, i Installer, t tree.Tree, now time.Time) (p pin.Pin, vouched bool, err error) {
	p = pin.Pin{URL: join(i.Location, t.Document), Digest: digest.Of(t.Text)}
	mirror, suite, root, ok := tree.Archive(i.Location)
	if !ok {
		return p, isLocal(i.Location), nil
	}
	r, err := f.release(ctx, Suite{Mirror: mirror, Name: suite, Keyring: i.Keyring}, now)
	if errors.Is(err, ErrNotFound) && isLocal(i.Location) {
		return p, true, nil // a copy of the tree alone
	}
	if err != nil {
		return p, false, err
	}
	listed := path.Join(root, t.Document)
	switch want, ok := r.files[listed]; {
	case !ok:
		return p, false, fmt.Errorf("%s does not list %s", r.pin.URL, listed)
	case want != p.Digest:
		return p, false, fmt.Errorf("%s: %w: SHA-256 %s, want %s as %s tells; a mirror in the middle of an update?", p.URL, digest.ErrMismatch, p.Digest, want, r.pin.URL)
	}
	return r.pin, true, nil
}

// part pins a file by what the tree tells of it, what the definition gives, or,
// on this machine, what it is.
func (f *Fetcher) part(ctx context.Context, address string, told digest.Digest, given digest.Checksum) (pin.Pin, error) {
	switch {
	case told != "" && given == "":
		return pin.Pin{URL: address, Digest: told}, nil
	case told != "" && strings.HasPrefix(string(given), "sha256:"):
		if given != told.Checksum() {
			return pin.Pin{}, fmt.Errorf("%s: %w: the tree tells sha256:%s, the definition gives %s", address, digest.ErrMismatch, told, given)
		}
		return pin.Pin{URL: address, Digest: told}, nil
	case given == "" && !isLocal(address):
		return pin.Pin{}, fmt.Errorf("nothing signed vouches for %s: give kernel_checksum and initrd_checksum", address)
	}
	body, _, err := f.open(ctx, address, 0)
	if err != nil {
		return pin.Pin{}, err
	}
	defer body.Close()
	sum := digest.NewWriter(io.Discard)
	if r := io.TeeReader(body, sum); given != "" {
		err = given.Verify(r)
	} else {
		_, err = io.Copy(io.Discard, r)
	}
	if err != nil {
		return pin.Pin{}, fmt.Errorf("read %s: %w", address, err)
	}
	return pin.Pin{URL: address, Digest: sum.Digest()}, nil
}

// digest fetches a file only to name its bytes.
func (f *Fetcher) digest(ctx context.Context, address string) (pin.Pin, error) {
	return f.part(ctx, address, "", "")
}

func isLocal(address string) bool { return strings.HasPrefix(address, "file:") }

// treeFiles looks into a tree by its address.
type treeFiles struct {
	ctx     context.Context
	fetcher *Fetcher
	base    string
}

// Read implements tree.Files.
func (t treeFiles) Read(name string, limit int64) ([]byte, error) {
	data, err := t.fetcher.Get(t.ctx, t.address(name), limit)
	return data, missing(err)
}

// Exists implements tree.Files. The body of the answer is left.
func (t treeFiles) Exists(name string) (bool, error) {
	body, _, err := t.fetcher.open(t.ctx, t.address(name), 0)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, body.Close()
}

func (t treeFiles) address(name string) string {
	return join(t.base, (&url.URL{Path: name}).EscapedPath())
}

// missing makes one error of what is not there.
func missing(err error) error {
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}
