package source

import (
	"context"
	"fmt"
	"time"

	"herdbook/internal/digest"
	"herdbook/internal/pin"
)

// Installer names the tree of a distribution's installer.
type Installer struct {
	Kind           string          // of the installer that is looked for: preseed, kickstart, autoyast
	Location       string          // address of the tree
	Kernel, Initrd digest.Checksum // that the definition gives; "" if the tree must vouch for them
	Keyring        string          // path of the keys that may sign the tree's archive; "" is DebianKeyring
}

// digest fetches a file only to name its bytes.
func (f *Fetcher) digest(ctx context.Context, address string) (p pin.Pin, err error) {
	body, _, err := f.open(ctx, address, 0)
	if err != nil {
		return p, err
	}
	d, _, err := digest.OfReader(body)
	if closed := body.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return p, fmt.Errorf("fetch %s: %w", address, err)
	}
	return pin.Pin{URL: address, Digest: d}, nil
}

// PinNames are the names of the tree's pins; the last of them may have none.
func (i Installer) PinNames() []string {
	return []string{
		pin.InstallerName(i.Location, pin.Kernel), pin.InstallerName(i.Location, pin.Initrd), pin.InstallerName(i.Location, pin.Archive),
	}
}

// Installer finds kernel and initrd of a tree and pins them.
func (f *Fetcher) Installer(ctx context.Context, i Installer, now time.Time) ([]pin.Pin, error) {
	return nil, fmt.Errorf("find the installer of %s: not yet", i.Location)
}
