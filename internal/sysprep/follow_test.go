package sysprep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"herdbook/internal/event"
	"herdbook/internal/guest"
	"herdbook/internal/guest/guesttest"
	"herdbook/internal/peer"
	"herdbook/internal/uuid"
)

const (
	rootOld, rootNew = "38ea5f6e-0a1b-4c2d-9e3f-0123456789ab", "7d1c9a20-1111-4222-8333-cdefcdefcdef"
	swapOld, swapNew = "aaaaaaaa-0a1b-4c2d-9e3f-0123456789ab", "bbbbbbbb-1111-4222-8333-cdefcdefcdef"
	espOld, espNew   = "9E16-250E", "12AB-34CD"
	groupOld         = "AbCdEf-0123-4567-89ab-cdef-GHIJ-KLMNOP"
	groupNew         = "ZZZZZZ-yyyy-xxxx-wwww-vvvv-uuuu-tttttt"
	luks             = "11111111-0a1b-4c2d-9e3f-0123456789ab"
)

var (
	fileSystems = []uuid.Change{
		{Type: uuid.Ext, Old: rootOld, New: rootNew}, {Type: uuid.Swap, Old: swapOld, New: swapNew}, {Type: uuid.FAT, Old: espOld, New: espNew},
	}
	volumeGroup = []uuid.Change{{Type: uuid.VolumeGroup, Old: groupOld, New: groupNew}}
)

// booting is what says how a system boots.
var booting = []struct{ path, content string }{
	{"/etc/fstab", "UUID=" + rootOld + " / ext4 defaults 0 1\nUUID=" + espOld + " /boot/efi vfat umask=0077 0 1\nUUID=" + luks + " none\n"},
	{"/etc/crypttab", "swap UUID=" + luks + " none\nother UUID=" + swapOld + " /dev/urandom swap\n"},
	{"/etc/default/grub.d/resume.cfg", "GRUB_CMDLINE_LINUX=\"resume=UUID=" + swapOld + "\"\n"},
	{"/etc/initramfs-tools/conf.d/resume", "RESUME=UUID=" + swapOld + "\n"},
	{"/etc/kernel/cmdline", "root=UUID=" + rootOld + " ro\n"},
	{"/etc/lvm/backup/vg", "id = \"" + groupOld + "\"\n"},
	{"/etc/unrelated", rootOld + "\n"},
	{"/boot/grub/grub.cfg", "search --fs-uuid --set=root " + rootOld + "\nmenuentry 'x' $menuentry_id_option 'gnulinux-simple-" + rootOld + "'\nset root='lvmid/" + groupOld + "/x'\n"},
	{"/boot/grub/grubenv", "# GRUB Environment Block\nsaved_entry=gnulinux-advanced-" + rootOld + "\n####"},
	{"/boot/grub/i386-pc/core.img", "compressed"},
	{"/boot/loader/entries/a.conf", "options root=UUID=" + rootOld + "\n"},
	{"/boot/efi/EFI/debian/grub.cfg", "search.fs_uuid " + rootOld + " root\n"},
	{"/boot/efi/EFI/BOOT/BOOTX64.EFI", "MZ\x00\x01search.fs_uuid " + rootOld + " root\x00\xff"},
	{"/boot/initrd.img-6.1", "not an initrd"},
	{"/boot/efi/EFI/BOOT/shim.efi", "MZ\x00signed"},
}

// newBooting makes a guest of which the runner notes the commands.
func newBooting(t *testing.T, more ...node) (*guest.Guest, *commands) {
	t.Helper()
	dir := guesttest.Sandbox(t)
	nodes := []node{}
	for _, d := range []string{"dev", "proc", "sys", "run", "tmp", "usr/sbin", "usr/bin"} {
		nodes = append(nodes, node{Path: "/" + d + "/", Mode: 0o755})
	}
	for _, f := range booting {
		nodes = append(nodes, node{Path: f.path, Mode: 0o640, Content: f.content})
	}
	guesttest.Plant(t, dir, append(nodes, more...))
	root, err := guest.OpenRoot(dir)
	peer.Must(t, err)
	t.Cleanup(func() { root.Close() })
	c := &commands{}
	return &guest.Guest{Root: root, Runner: c, Device: "/dev/vda"}, c
}

type commands struct {
	run    []string
	status int
}

func (c *commands) Run(_ context.Context, command guest.Command) (int, error) {
	c.run = append(c.run, strings.Join(command.Args, " "))
	return c.status, nil
}

func program(name string) node { return node{Path: "/usr/sbin/" + name, Mode: 0o755, Content: "x"} }

// All that says an identifier says the new one, and nothing else changes.
func TestFollow(t *testing.T) {
	g, ran := newBooting(t, program("update-initramfs"), program("grub-install"))
	before := guesttest.Snapshot(t, g.Root.Dir())
	peer.Must(t, Follow(t.Context(), g, append(slices.Clone(fileSystems), volumeGroup...), false))
	changed := guesttest.Diff(before, guesttest.Snapshot(t, g.Root.Dir()))
	replace := strings.NewReplacer(rootOld, rootNew, swapOld, swapNew, espOld, espNew, groupOld, groupNew)
	for _, f := range booting {
		want := replace.Replace(f.content)
		if f.path == "/etc/unrelated" {
			want = f.content
		}
		if got, err := g.Root.ReadFile(f.path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", f.path, got, err, want)
		}
		if is := strings.Contains(changed, f.path); is != (want != f.content) {
			t.Errorf("%s: changed %v\n%s", f.path, is, changed)
		}
	}
	if !slices.Equal(ran.run, []string{"update-initramfs -u -k all"}) {
		t.Errorf("%q were run", ran.run)
	}
}

func TestFollowRuns(t *testing.T) {
	told := node{Path: "/boot/grub/i386-pc/load.cfg", Content: "search.fs_uuid " + rootOld + " root\n"}
	clean := node{Path: "/boot/initrd.img-6.1"}
	install := "grub-install --target=i386-pc --no-floppy /dev/vda"
	for name, c := range map[string]struct {
		list  []uuid.Change
		onLVM bool
		nodes []node
		want  []string
		err   string
	}{
		"GRUB's core was told a UUID": {fileSystems, false, []node{clean, told, program("grub-install")}, []string{install}, ""},
		"and there is no program":     {fileSystems, false, []node{clean, told}, nil, "no grub-install"},
		"and no maker of initrds":     {fileSystems, false, []node{{Path: "/boot/initramfs-6.1.img", Content: "?"}}, nil, "none of update-initramfs"},
		"by its other name":           {fileSystems, false, []node{told, program("grub2-install"), program("dracut")}, []string{"dracut --regenerate-all --force", strings.Replace(install, "grub-", "grub2-", 1)}, ""},
		"it was told another":         {volumeGroup, false, []node{told, program("dracut")}, nil, ""},
		"/boot on LVM":                {volumeGroup, true, []node{program("grub-install"), program("mkinitcpio")}, []string{install}, ""},
		"LVM elsewhere":               {volumeGroup, false, []node{program("grub-install"), program("mkinitcpio")}, nil, ""},
		"file systems on LVM":         {fileSystems, true, []node{program("mkinitcpio")}, []string{"mkinitcpio -P"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g, ran := newBooting(t, c.nodes...)
			err := Follow(t.Context(), g, c.list, c.onLVM)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%v", err)
			}
			if !slices.Equal(ran.run, c.want) {
				t.Errorf("%q were run, want %q", ran.run, c.want)
			}
		})
	}
	g, ran := newBooting(t, program("dracut"))
	ran.status = 3
	if err := Follow(t.Context(), g, fileSystems, false); err == nil || !strings.Contains(err.Error(), "status 3") {
		t.Errorf("%v", err)
	}
}

// What an initrd says is found in whatever it is packed, and over the bounds of what is read at a time.
func TestInitrdsAreStale(t *testing.T) {
	peer.NeedTool(t, "cpio", "gzip", "zstd", "xz")
	archive := func(content string) string {
		dir := t.TempDir()
		peer.Must(t, os.WriteFile(filepath.Join(dir, "conf"), []byte(content), 0o644))
		return peer.Run(t, "sh", "-c", "cd "+dir+" && find . | cpio -o -H newc --quiet")
	}
	pack := func(how, content string) string {
		name := filepath.Join(t.TempDir(), "x")
		peer.Must(t, os.WriteFile(name, []byte(content), 0o644))
		return peer.Run(t, "sh", "-c", how+" <"+name)
	}
	const clean = "resume=UUID=" + luks
	stale := strings.Repeat("\x01", 1<<20-150) + "UUID=" + swapOld
	early := archive("microcode") + strings.Repeat("\x00", 512)
	for name, c := range map[string]struct {
		initrd string
		want   bool
	}{
		"plain":            {archive(stale), true},
		"plain and clean":  {archive(clean), false},
		"early":            {archive(stale) + pack("gzip", archive(clean)), true},
		"gzip":             {early + pack("gzip", archive(stale)), true},
		"gzip and clean":   {early + pack("gzip", archive(clean)), false},
		"zstd":             {early + pack("zstd", archive(stale)), true},
		"zstd and clean":   {early + pack("zstd", archive(clean)), false},
		"xz":               {early + early + pack("xz --check=crc32", archive(stale)), true},
		"xz and clean":     {early + early + pack("xz --check=crc32", archive(clean)), false},
		"a unit of it":     {archive(`dev-disk-by\x2duuid-aaaaaaaa\x2d0a1b\x2d4c2d\x2d9e3f\x2d0123456789ab.device`), true},
		"another packing":  {early + "\x02\x21\x4c\x18noise", true},
		"half of it":       {early + pack("gzip", archive(clean))[:100], true},
		"half an archive":  {archive(clean)[:130], true},
		"numbers of noise": {"070701" + strings.Repeat("z", 200), true},
		"empty":            {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := guesttest.Sandbox(t)
			guesttest.Plant(t, dir, []node{{Path: "/boot/initrd.img-6.1", Content: c.initrd}})
			root, err := guest.OpenRoot(dir)
			peer.Must(t, err)
			defer root.Close()
			if got, err := initrdsAreStale(root, fileSystems); got != c.want || err != nil {
				t.Errorf("%v, %v", got, err)
			}
			if got, err := initrdsAreStale(root, volumeGroup); got || err != nil {
				t.Errorf("of LVM: %v, %v", got, err)
			}
		})
	}
}

func FuzzInitrd(f *testing.F) {
	f.Add([]byte("\x00\x00070701" + strings.Repeat("0", 104) + "x"))
	f.Add([]byte("\x1f\x8b\x08"))
	f.Fuzz(func(t *testing.T, initrd []byte) {
		s := &scanner{words: initrdWords(fileSystems), buffer: make([]byte, 4096)}
		if says, err := s.initrd(bytes.NewReader(initrd)); says && err != nil {
			t.Errorf("it says a word, and yet %v", err)
		}
	})
}

// The programs that are brought run where nothing else is.
func TestBringTools(t *testing.T) {
	from, to := guesttest.Sandbox(t), guesttest.Sandbox(t)
	for _, dir := range []string{"dev", "sbin", "usr/sbin"} {
		peer.Must(t, os.MkdirAll(filepath.Join(from, dir), 0o755))
	}
	guesttest.Bring(t, from, "tune2fs", "e2fsck")
	root, err := guest.OpenRoot(from)
	peer.Must(t, err)
	defer root.Close()
	own, err := guest.OpenRoot(to)
	peer.Must(t, err)
	defer own.Close()
	g := &guest.Guest{Root: root}
	peer.Must(t, BringTools(t.Context(), g, fileSystems, own))
	for _, name := range []string{"tune2fs", "e2fsck"} {
		path, err := exec.LookPath(name)
		peer.Must(t, err)
		cmd := exec.Command(path, "-V")
		if name == "tune2fs" {
			cmd = exec.Command(path)
		}
		cmd.SysProcAttr, cmd.Dir = &syscall.SysProcAttr{Chroot: to}, "/"
		if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), "e2fsck") && !strings.Contains(string(out), "tune2fs") {
			t.Errorf("%s alone: %s", name, out)
		}
	}
	err = BringTools(t.Context(), g, []uuid.Change{{Type: uuid.XFS}}, own)
	if err == nil || !strings.Contains(err.Error(), "add its package xfsprogs") {
		t.Errorf("%v", err)
	}
	for name, content := range map[string]string{"no program": "#!/bin/sh\n", "half a program": "\x7fELF"} {
		peer.Must(t, os.WriteFile(filepath.Join(from, "usr/sbin/xfs_db"), []byte(content), 0o755))
		if err := BringTools(t.Context(), g, []uuid.Change{{Type: uuid.XFS}}, own); err == nil {
			t.Errorf("%s was brought", name)
		}
	}
}

// The programs themselves, and what they make of it, on file systems of files.
func TestChange(t *testing.T) {
	peer.NeedTool(t, "mke2fs", "mkfs.xfs", "mkfs.btrfs", "mkswap", "blkid", "xfs_db", "btrfstune", "tune2fs", "e2fsck")
	nodes := map[uuid.Type]string{}
	var list []uuid.Change
	for kind, format := range map[uuid.Type][]string{
		uuid.Ext: {"mke2fs", "-q", "-t", "ext4", "-O", "metadata_csum,^metadata_csum_seed"}, uuid.XFS: {"mkfs.xfs", "-q"}, uuid.Btrfs: {"mkfs.btrfs", "-q"}, uuid.Swap: {"mkswap", "-q"},
	} {
		nodes[kind] = filepath.Join(t.TempDir(), "x")
		peer.Must(t, os.WriteFile(nodes[kind], nil, 0o600))
		peer.Must(t, os.Truncate(nodes[kind], 320<<20))
		peer.Run(t, format[0], append(format[1:], nodes[kind])...)
		list = append(list, uuid.Change{Type: kind, Old: string(kind), New: fmt.Sprintf("%08d-1111-4222-8333-cdefcdefcdef", len(list))})
	}
	var said []string
	sink := func(e event.Event) { said = append(said, e.Text) }
	runner := hostRunner{t}
	peer.Must(t, Change(t.Context(), runner, sink, list, func(id uuid.Change) string { return nodes[id.Type] }))
	for _, id := range list {
		if got := strings.TrimSpace(peer.Run(t, "blkid", "-p", "-o", "value", "-s", "UUID", nodes[id.Type])); got != id.New {
			t.Errorf("%s has %s", id.Type, got)
		}
	}
	peer.Run(t, "e2fsck", "-fn", nodes[uuid.Ext])
	if len(said) != len(list) {
		t.Errorf("it said %q", said)
	}
	list[0].Type = uuid.Ext
	if err := Change(t.Context(), runner, nil, list[:1], func(uuid.Change) string { return nodes[uuid.Swap] }); err == nil || !strings.Contains(err.Error(), "ended with status") {
		t.Errorf("%v", err)
	}
}

// hostRunner runs the programs of this machine.
type hostRunner struct{ t *testing.T }

func (r hostRunner) Run(ctx context.Context, c guest.Command) (int, error) {
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.t.Logf("%q: %s", c.Args, out)
		return exit.ExitCode(), nil
	}
	return 0, err
}
