// Package bootstrap makes a bootable disk out of a distribution's packages,
// without an installer and without a machine: mmdebstrap resolves and unpacks
// them on the host, mke2fs fills the file system, and the partition table is
// written around it. It needs no root where user namespaces work. The boot
// loader is left to the workshop, which has the guest's own GRUB.
package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"herdbook/internal/digest"
	"herdbook/internal/disk"
	"herdbook/internal/event"
)

// Spec says what to make. Every field changes the result.
type Spec struct {
	Suite        string
	Mirror       string
	Components   []string
	Variant      string
	Include      []string
	Keyring      string // path; "" is what apt trusts on this host
	Architecture string
	Size         int64         // of the disk, in bytes
	Release      digest.Digest // of the InRelease that the plan was made for
	Epoch        int64         // seconds since 1970: the time of every file that is newer
	Seed         string        // what the identifiers of disk and file systems are derived from
}

// ErrMoved is wrapped by the error that says that the mirror had another
// InRelease than the plan was made for. To pin again and start again helps.
var ErrMoved = errors.New("the mirror has changed since it was pinned")

// essential is what an image needs to boot, beyond what the variant brings.
var essential = map[string][]string{
	"amd64": {"systemd-sysv", "udev", "grub2-common", "grub-pc-bin", "grub-efi-amd64-bin"},
}

// otherInits are the packages that bring another init than systemd, and conflict with
// systemd-sysv.
var otherInits = []string{"sysvinit-core", "runit-init"}

// include returns the packages that are asked for: those of the definition and
// those without which the image would not boot. systemd and a kernel are added unless
// the definition names another one.
func (s Spec) include() []string {
	include := slices.Concat(s.Include, essential[s.Architecture])
	if slices.ContainsFunc(s.Include, func(name string) bool { return slices.Contains(otherInits, name) }) {
		include = slices.DeleteFunc(include, func(name string) bool { return name == "systemd-sysv" })
	}
	isKernel := func(name string) bool { return strings.HasPrefix(name, "linux-image-") }
	if !slices.ContainsFunc(s.Include, isKernel) {
		include = append(include, "linux-image-"+s.Architecture)
	}
	slices.Sort(include)
	return slices.Compact(include)
}

// Make builds the disk at path, a qcow2 image, with all its temporary files in
// scratch, an empty directory that the caller removes.
func Make(ctx context.Context, s Spec, scratch, path string, sink event.Sink) error {
	if len(essential[s.Architecture]) == 0 {
		return fmt.Errorf("bootstrap: architecture %q is not one that herdbook can make bootable: amd64", s.Architecture)
	}
	parts, err := layout(s)
	if err != nil {
		return err
	}
	raw := filepath.Join(scratch, "disk.raw")
	if err := parts.write(raw, s.Size); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	if err := (filling{Spec: s, parts: parts, scratch: scratch, raw: raw}).run(ctx, sink); err != nil {
		return err
	}
	sink.Emit(event.Event{Kind: event.Phase, Text: "pack the disk"})
	if err := disk.Flatten(ctx, raw, path, disk.FlattenOptions{SourceFormat: disk.Raw, Format: disk.QCOW2}); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	return os.Remove(raw)
}

// filling puts packages into the root partition of a raw disk.
type filling struct {
	Spec
	parts   partitions
	scratch string // directory for what is needed meanwhile
	raw     string // path of the disk
}

// run starts mmdebstrap and, on its output, tar and mke2fs: the packages pass
// from one to the other as a tar and are never stored twice.
func (f filling) run(ctx context.Context, sink event.Sink) (err error) {
	if err := writeConfiguration(f.parts, f.scratch); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	tree := filepath.Join(f.scratch, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	said := &speech{sink: sink}

	unpack, err := newNamespace(ctx, unpackScript, append([]string{tree}, f.mke2fs(f.parts, tree, f.raw)...))
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	unpack.Env = f.environment()
	unpack.Stdout, unpack.Stderr = said.stream("mke2fs"), said.stream("mke2fs")

	if f.Keyring != "" {
		readable, remove, failed := publicCopy(f.Keyring)
		if failed != nil {
			return fmt.Errorf("bootstrap: %w", failed)
		}
		defer func() { err = errors.Join(err, remove()) }()
		f.Keyring = readable
	}
	strap, err := command(ctx, "mmdebstrap", f.mmdebstrap(f.scratch)...)
	if err == nil {
		err = keepMounts(strap)
	}
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	strap.Env = f.environment()
	strap.Stderr = said.stream("mmdebstrap")

	sink.Emit(event.Event{Kind: event.Phase, Text: "resolve, fetch and unpack packages"})
	strapErr, unpackErr := pipe(strap, unpack, cancel)
	said.flush()
	switch {
	case ctx.Err() != nil && context.Cause(ctx) != context.Canceled:
		return fmt.Errorf("bootstrap: %w", context.Cause(ctx))
	case strapErr != nil:
		return fmt.Errorf("bootstrap %s from %s: mmdebstrap: %w\n%s", f.Suite, f.Mirror, strapErr, said.errors("mmdebstrap"))
	case unpackErr != nil:
		return fmt.Errorf("bootstrap %s: fill the file system: %w\n%s", f.Suite, unpackErr, said.errors("mke2fs"))
	}
	if said.release != string(f.Release) {
		return fmt.Errorf("bootstrap %s from %s: %w: InRelease %.12s, pinned %s; build again to take what it has now",
			f.Suite, f.Mirror, ErrMoved, said.release, f.Release.Short())
	}
	return nil
}

// publicCopy copies a file to where apt's own account can read it, which the
// directories of a user often do not let it.
func publicCopy(path string) (readable string, remove func() error, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", nil, fmt.Errorf("read keyring: %w", err)
	}
	dir, err := os.MkdirTemp("", "herdbook-keyring-")
	if err != nil {
		return "", nil, fmt.Errorf("copy keyring: %w", err)
	}
	readable = filepath.Join(dir, filepath.Base(path))
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(readable, text, 0o644)); err != nil {
		return "", nil, errors.Join(fmt.Errorf("copy keyring: %w", err), os.RemoveAll(dir))
	}
	return readable, func() error { return os.RemoveAll(dir) }, nil
}

// unpackScript takes a tar and makes a file system of it. Device nodes are left
// out: a user namespace cannot make them and the guest's devtmpfs does.
const unpackScript = `
set -e
tree=$1; shift
tar --extract --file - --directory "$tree" --numeric-owner --preserve-permissions --xattrs --xattrs-include='*' --exclude='./dev/*'
mke2fs "$@" 2>&1
rm -rf "$tree"
`

// mke2fs names every feature, so that neither the host's mke2fs.conf nor a
// newer e2fsprogs gives the guest a file system that its kernel cannot mount.
func (s Spec) mke2fs(parts partitions, tree, raw string) []string {
	const features = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit," +
		"flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum"
	id := identifier(s.Seed, "hash seed")
	return []string{"-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-i", "16384", "-m", "1", "-O", features,
		"-L", "root", "-U", parts.rootID,
		"-E", fmt.Sprintf("offset=%d,hash_seed=%s,lazy_itable_init=0,lazy_journal_init=0,nodiscard", parts.root.Start, id),
		"-d", tree, raw, fmt.Sprintf("%dk", parts.root.Size>>10)}
}

func (s Spec) mmdebstrap(scratch string) []string {
	args := []string{
		"--variant=" + s.Variant,
		"--architectures=" + s.Architecture,
		"--components=" + strings.Join(s.Components, ","),
		"--include=" + strings.Join(s.include(), ","),
		"--format=tar",
		`--aptopt=Acquire::http::Timeout "30"`,
		`--aptopt=Acquire::https::Timeout "30"`,
		`--aptopt=Acquire::Retries "3"`,
		`--aptopt=Acquire::Languages "none"`,
		"--customize-hook=upload " + filepath.Join(scratch, "fstab") + " /etc/fstab",
		"--customize-hook=upload " + filepath.Join(scratch, "hosts") + " /etc/hosts",
		"--customize-hook=upload " + filepath.Join(scratch, "hostname") + " /etc/hostname",
		`--customize-hook=rm -f "$1"/etc/resolv.conf`,
		// What apt verified, before mmdebstrap cleans its lists away.
		`--customize-hook=echo "` + releaseMark + `$(cat "$1"/var/lib/apt/lists/*_InRelease | sha256sum | cut -d" " -f1)" >&2`,
	}
	if s.Keyring != "" {
		args = append(args, "--keyring="+s.Keyring)
	}
	return append(args, "--", s.Suite, "-", s.Mirror)
}

const releaseMark = "herdbook InRelease "

func (s Spec) environment() []string {
	keep := []string{"PATH", "TMPDIR", "HOME", "http_proxy", "https_proxy", "no_proxy"}
	env := []string{"LC_ALL=C.UTF-8", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", s.Epoch), fmt.Sprintf("E2FSPROGS_FAKE_TIME=%d", s.Epoch)}
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if slices.Contains(keep, name) {
			env = append(env, variable)
		}
	}
	return env
}
