// Package ramdisk exports an image as what a machine boots from memory: its kernel, an
// initrd with package ramroot as its first process, and the root, read out of the image
// without a machine, as a squashfs under a layer of memory or unpacked as an initrd
// itself. Scripts for iPXE, GRUB and PXELINUX go with it, one EFI program if it is wanted,
// and what memory it takes, measured in a machine where there is one.
//
// Equal layers and options give equal bytes.
package ramdisk

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"herdbook/internal/artefact"
	"herdbook/internal/digest"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/machine"
	"herdbook/internal/ramroot"
	"herdbook/internal/target"
)

//go:embed all:embedded
var embedded embed.FS

// errNoInit says that the program was built without the first process of ramdisks.
var errNoInit = errors.New("this herdbook was built without its init: build it with make build")

// squashfs is the layout with a root of its own.
const squashfs = "squashfs"

// Exporter writes IMAGE.vmlinuz, IMAGE.initrd, IMAGE.squashfs, the scripts and IMAGE.efi.
type Exporter struct {
	target.RAMDisk
	// Accelerator is asked for a machine to measure the memory in. Nil: it is reckoned.
	Accelerator func(context.Context) (machine.Accelerator, error)
	// Medium says that the files are for a medium, which is not booted over a network: there
	// are no scripts, and nobody is advised to fetch something.
	Medium bool
}

// certificates are what HTTPS trusts, in Debian's place and in that of the RH family.
var certificates = []string{"etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt"}

// Fits implements artefact.Exporter.
func (e *Exporter) Fits(s *inspection.System) error {
	if s.Architecture != "amd64" {
		return fmt.Errorf("it is made for %s, and ramdisks can be made for amd64 only", s.Architecture)
	}
	k, err := newestKernel(s)
	if err != nil {
		return err
	}
	if err := k.fits(e.Layout, e.Compression); err != nil {
		return err
	}
	if _, err := firstOf(s, "sbin/init", "etc/init", "bin/init", "usr/lib/systemd/systemd"); err != nil {
		return errors.New("it has no init that a machine could start: add one to its packages, such as systemd-sysv")
	}
	if e.fetches() && strings.HasPrefix(e.URL, "https:") {
		if _, err := firstOf(s, certificates...); err != nil {
			return errors.New("it trusts nobody by whom its root could be fetched over HTTPS: add ca-certificates to its packages, or use http, since the root's digest is checked in any case")
		}
	}
	if e.UKI {
		if _, err := firstOf(s, stubPath); err != nil {
			return errors.New("it has no systemd-stub to make an EFI program of: add systemd-boot-efi to its packages, or leave uki away")
		}
	}
	return nil
}

// fetches tells whether the initrd is to fetch the root.
func (e *Exporter) fetches() bool { return e.Layout == squashfs && e.URL != "" }

// firstOf is the first of some files that is there. What a link leads to is not asked.
func firstOf(s *inspection.System, names ...string) (string, error) {
	for _, name := range names {
		if _, err := s.Tree().Lstat(name); err == nil {
			return name, nil
		}
	}
	return "", fs.ErrNotExist
}

// Write implements artefact.Exporter.
func (e *Exporter) Write(ctx context.Context, image *artefact.Image, dir string, sink event.Sink) (made artefact.Made, err error) {
	sink.Emit(event.Event{Kind: event.Phase, Text: "read the file system"})
	if err := context.Cause(ctx); err != nil {
		return made, err
	}
	first, err := embedded.ReadFile("embedded/herdbook-init")
	if err != nil {
		return made, errNoInit
	}
	k, err := newestKernel(image.System)
	if err != nil {
		return made, err
	}
	w := &work{Exporter: e, image: image, kernel: k, dir: dir, first: first, sink: sink}
	if err := w.copyKernel(); err != nil {
		return made, fmt.Errorf("copy the kernel: %w", err)
	}
	if e.Layout == squashfs {
		err = w.writeSquashfs(ctx)
	} else {
		err = w.writeWhole(ctx)
	}
	if err != nil {
		return made, err
	}
	if !e.Medium {
		if err := w.writeScripts(); err != nil {
			return made, err
		}
	}
	if e.UKI {
		sink.Emit(event.Event{Kind: event.Phase, Text: "write the EFI program"})
		if err := w.writeUKI(); err != nil {
			return made, fmt.Errorf("make an EFI program: %w", err)
		}
	}
	facts, err := w.budget(ctx)
	if err != nil {
		return made, err
	}
	made = artefact.Made{Main: w.name("vmlinuz"), Facts: facts, Use: w.use()}
	return made, context.Cause(ctx)
}

// work is the making of one artefact.
type work struct {
	*Exporter
	image  *artefact.Image
	kernel *kernel
	dir    string
	first  []byte // the first process
	sink   event.Sink

	root     string // path of the squashfs; "" if there is none
	config   ramroot.Config
	firmware []string // names of what of it is in the initrd
	unpacked int64    // bytes of what the initrd becomes, without a root in it
}

func (w *work) name(ending string) string { return w.image.Name + "." + ending }
func (w *work) path(ending string) string { return filepath.Join(w.dir, w.name(ending)) }

// asRamfs lets the kernel unpack an initrd to a file system without bounds. A tmpfs, which it
// takes otherwise, would be full at half of the memory that the initrd itself leaves.
const asRamfs = "rootfstype=ramfs"

// CommandLine is the kernel's, but for the initrd's name. A panic, which is how a failure of
// the first process ends, restarts the machine.
func (e *Exporter) CommandLine() string {
	args := []string{"panic=30"}
	if e.Layout == squashfs && !e.fetches() {
		args = append(args, asRamfs)
	}
	return strings.Join(append(args, e.Arguments...), " ")
}

func (w *work) use() []string {
	return []string{fmt.Sprintf("qemu-system-x86_64 -m 2G -nographic -kernel %s -initrd %s -append '%s' -nic user,model=virtio-net-pci",
		w.name("vmlinuz"), w.name("initrd"), w.CommandLine())}
}

func (w *work) copyKernel() (err error) {
	in, err := w.image.System.Tree().Open(w.kernel.Image)
	if err != nil {
		return err
	}
	defer in.Close()
	return writeFile(w.path("vmlinuz"), func(out io.Writer) error {
		_, err := io.Copy(out, in)
		return err
	})
}

// writeSquashfs writes the root beside an initrd that fetches it, or into it.
func (w *work) writeSquashfs(ctx context.Context) (err error) {
	if w.root, err = squash(ctx, w.image, w.kernel.Version, w.Compression); err != nil {
		return err
	}
	f, err := os.Open(w.root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if w.config.Digest, w.config.Size, err = digest.OfReader(f); err != nil {
		return fmt.Errorf("read the root: %w", err)
	}
	w.sink.Emit(event.Event{Kind: event.Phase, Text: "write the initrd"})
	if w.fetches() {
		w.config.URL = w.address("squashfs")
		if err := artefact.Place(w.root, w.path("squashfs")); err != nil {
			return err
		}
	}
	return writeFile(w.path("initrd"), func(out io.Writer) error {
		if err := w.writeInitrd(ctx, out); err != nil || w.fetches() {
			return err
		}
		return appendRoot(out, w.root, w.config.Size)
	})
}

// writeFile writes a file that is whole if there is no error.
func writeFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
