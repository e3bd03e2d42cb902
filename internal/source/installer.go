package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
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
	Keyring        string          // path of the keys that may sign the tree; "" is DebianKeyring for preseed, and none for others
}

// PinNames are the names of the tree's pins; the last of them may have none.
func (i Installer) PinNames() []string {
	return []string{
		pin.InstallerName(i.Location, pin.Kernel), pin.InstallerName(i.Location, pin.Initrd), pin.InstallerName(i.Location, pin.Archive),
	}
}

// Installer finds kernel and initrd of a tree and pins them, with what the state of
// the tree is known by. Their digests are those that the definition gives, or
// that the tree's document tells if something vouches for it (see vouch); on this
// machine, in a tree without a document, those of the files as they are.
func (f *Fetcher) Installer(ctx context.Context, i Installer, now time.Time) ([]pin.Pin, error) {
	pins, err := f.installer(ctx, i, now)
	if err != nil {
		return nil, fmt.Errorf("find the installer in %s: %w", i.Location, err)
	}
	return pins, nil
}

func (f *Fetcher) installer(ctx context.Context, i Installer, now time.Time) ([]pin.Pin, error) {
	names, location := i.PinNames(), i.Location
	i.Location = tree.Root(location)
	files := &treeFiles{ctx: ctx, fetcher: f, base: i.Location}
	t, err := tree.Find(tree.For(i.Kind), location, files)
	if err == nil {
		err = t.Runs()
	}
	if err != nil {
		return nil, files.explain(err)
	}
	archive, err := f.vouch(ctx, i, t, now)
	if err == nil && t.Kind != tree.Debian {
		archive, err = f.repository(ctx, i, archive)
	}
	if err != nil {
		return nil, err
	}
	kernel, err := f.part(ctx, within(i.Location, t.Kernel.Path), t.Kernel.Digest, i.Kernel)
	if err != nil {
		return nil, fmt.Errorf("pin the kernel: %w", files.explain(err))
	}
	initrd, err := f.part(ctx, within(i.Location, t.Initrd.Path), t.Initrd.Digest, i.Initrd)
	if err != nil {
		return nil, fmt.Errorf("pin the initrd: %w", files.explain(err))
	}
	pins := []pin.Pin{kernel, initrd, archive}
	for n, name := range names {
		pins[n].Name = name
	}
	if archive.URL == "" {
		pins = pins[:2]
	}
	return pins, nil
}

// repository is the pin of the index of packages in a tree that is a repository
// itself, as Red Hat's and SUSE's are: it follows every package, which the tree's
// document does not. Nobody vouches for it, as it only decides when an image is made
// anew. Where there is none, the tree is known otherwise.
func (f *Fetcher) repository(ctx context.Context, i Installer, otherwise pin.Pin) (pin.Pin, error) {
	address := within(i.Location, "repodata/repomd.xml")
	text, err := f.Get(ctx, address, maxRelease)
	if isAbsent(err) {
		return otherwise, nil
	}
	return pin.Pin{URL: address, Checksum: digest.Of(text).Checksum()}, err
}

// part pins a file by what the tree tells of it, what the definition gives, or,
// on this machine, what it is.
func (f *Fetcher) part(ctx context.Context, address string, told digest.Digest, given digest.Checksum) (pin.Pin, error) {
	switch {
	case told != "" && given == "":
		return pin.Pin{URL: address, Checksum: told.Checksum()}, nil
	case told != "" && given.IsSHA256():
		if given != told.Checksum() {
			return pin.Pin{}, fmt.Errorf("%s: %w: the tree tells sha256:%s, the definition gives %s", address, digest.ErrMismatch, told, given)
		}
		return pin.Pin{URL: address, Checksum: told.Checksum()}, nil
	case given == "" && !isLocal(address):
		return pin.Pin{}, unvouched(address)
	}
	body, _, err := f.open(ctx, address, 0, maxBoot)
	if err != nil {
		return pin.Pin{}, err
	}
	defer body.Close()
	sum := digest.NewWriter(io.Discard)
	if r := io.TeeReader(patient{ctx, body}, sum); given != "" {
		err = given.Verify(r)
	} else {
		_, err = io.Copy(io.Discard, r)
	}
	if err != nil {
		return pin.Pin{}, fmt.Errorf("read %s: %w", address, err)
	}
	return pin.Pin{URL: address, Checksum: sum.Digest().Checksum()}, nil
}

// digest fetches a file only to name its bytes.
func (f *Fetcher) digest(ctx context.Context, address string) (pin.Pin, error) {
	return f.part(ctx, address, "", "")
}

func isLocal(address string) bool { return strings.HasPrefix(address, "file:") }
func isHTTPS(address string) bool { return strings.HasPrefix(address, "https:") }

// within is the address of a path in a tree.
func within(base, name string) string {
	return join(base, (&url.URL{Path: name}).EscapedPath())
}

// isAbsent tells the error of what is not there, or is not given out.
func isAbsent(err error) bool { return errors.Is(err, ErrNotFound) || errors.Is(err, errRefused) }

// treeFiles looks into a tree by its address.
type treeFiles struct {
	ctx     context.Context
	fetcher *Fetcher
	base    string
	refused error // of the first file that the server did not give out
}

// Read implements tree.Files.
func (t *treeFiles) Read(name string, limit int64) ([]byte, error) {
	data, err := t.fetcher.Get(t.ctx, within(t.base, name), limit)
	return data, t.missing(err)
}

// Exists implements tree.Files. The body of the answer is left.
func (t *treeFiles) Exists(name string) (bool, error) {
	body, _, err := t.fetcher.open(t.ctx, within(t.base, name), 0, maxBoot)
	if err = t.missing(err); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, body.Close()
}

// missing makes one error of what is not there.
func (t *treeFiles) missing(err error) error {
	if errors.Is(err, errRefused) && t.refused == nil {
		t.refused = err
	}
	if isAbsent(err) {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

// explain adds to the error of what was not found what was refused on the way.
func (t *treeFiles) explain(err error) error {
	if t.refused == nil {
		return err
	}
	return fmt.Errorf("%w; %w", err, t.refused)
}
