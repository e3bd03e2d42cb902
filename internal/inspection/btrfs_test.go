package inspection

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"herdbook/internal/peer"
)

// subvolume is one of an image, by its path from the top level; "" is that itself.
type subvolume struct {
	path string
	tree map[string]string
}

// btrfsImage makes a file system of subvolumes, of which one is the default.
func btrfsImage(t *testing.T, standard string, list ...subvolume) []byte {
	t.Helper()
	peer.NeedTool(t, "mkfs.btrfs", "btrfs")
	peer.NeedRoot(t, "mounting")
	peer.OwnMounts(t)
	dir, image := t.TempDir(), filepath.Join(t.TempDir(), "image")
	peer.Run(t, "truncate", "-s", "64M", image)
	peer.Run(t, "mkfs.btrfs", "-q", "--mixed", "-L", "system", image) // two of one UUID would be one for the kernel
	peer.Run(t, "mount", "-t", "btrfs", "-o", "loop", image, dir)     // by this thread, and so in its namespace
	for _, s := range list {
		at := filepath.Join(dir, s.path)
		if s.path != "" {
			peer.Must(t, os.MkdirAll(filepath.Dir(at), 0o755))
			peer.Run(t, "btrfs", "subvolume", "create", at)
		}
		peer.Run(t, "cp", "-a", lay(t, s.tree)+"/.", at)
	}
	if standard != "" {
		peer.Run(t, "btrfs", "subvolume", "set-default", filepath.Join(dir, standard))
	}
	peer.Must(t, unix.Unmount(dir, 0))
	return read(t, image)
}

// Every way in which installers lay a system on subvolumes.
func TestASystemOnBtrfs(t *testing.T) {
	mountable := func(fstab string) map[string]string {
		tree := debian(fstab)
		tree["home/"], tree[".snapshots/"] = "", ""
		return tree
	}
	const at = "LABEL=system"
	for name, c := range map[string]struct {
		standard string
		list     []subvolume
		want     []Mount
	}{
		"fedora": {"", []subvolume{
			{"root", mountable(at + " / btrfs subvol=root,compress=zstd:1 0 0\n" + at + " /home btrfs subvol=home,compress=zstd:1 0 0\n")},
			{"home", map[string]string{"file": "at home"}},
		}, []Mount{{1, "/", "btrfs", "subvol=root", ""}, {1, "/home", "btrfs", "subvol=home", ""}}},
		"opensuse": {"@/.snapshots/1/snapshot", []subvolume{
			{"@", nil}, {"@/home", map[string]string{"file": "at home"}}, {"@/.snapshots", map[string]string{"1/info.xml": "<snapshot/>"}},
			{"@/.snapshots/1/snapshot", mountable(at + " / btrfs defaults 0 0\n" + at + " /home btrfs subvol=/@/home 0 0\n" + at + " /.snapshots btrfs subvol=/@/.snapshots 0 0\n")},
		}, []Mount{{1, "/", "btrfs", "", ""}, {1, "/home", "btrfs", "subvol=/@/home", ""}, {1, "/.snapshots", "btrfs", "subvol=/@/.snapshots", ""}}},
		"debian, its fstab does not say": {"", []subvolume{
			{"@rootfs", mountable(at + " / btrfs defaults 0 0\n" + at + " /home btrfs subvolid=257 0 0\n")}, {"home", map[string]string{"file": "at home"}},
		}, []Mount{{1, "/", "btrfs", "subvol=@rootfs", ""}, {1, "/home", "btrfs", "subvolid=257", ""}}},
		"no subvolumes": {"", []subvolume{{"", debian(at + " / btrfs defaults 0 0\n")}, {"home", map[string]string{"file": "at home"}}},
			[]Mount{{1, "/", "btrfs", "", ""}}},
		"no fstab": {"", []subvolume{{"@", without(mountable(""), "etc/fstab", "home/")}, {"@/home", map[string]string{"file": "at home"}}},
			[]Mount{{1, "/", "btrfs", "subvol=@", ""}}},
		"fstab knows better": {"", []subvolume{
			{"root", mountable(at + " / btrfs subvol=other\n")}, {"other", debian("")}, {"other/home", map[string]string{"file": "at home"}},
		}, []Mount{{1, "/", "btrfs", "subvol=other", ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := inspect(table(t, "gpt", partition{"type=linux", btrfsImage(t, c.standard, c.list...)}))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, s.Mounts); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if s.Release.ID != "debian" || s.Architecture != "amd64" || !cmp.Equal(s.Kernels, wantKernels) {
				t.Errorf("%+v", s)
			}
			// "home" of no subvolumes is one that is nested.
			if text, err := fs.ReadFile(s.Tree(), "home/file"); err != nil || string(text) != "at home" {
				t.Errorf("home/file: %q, %v", text, err)
			}
		})
	}
}

func TestBtrfsWithoutASystem(t *testing.T) {
	const at = "LABEL=system"
	for want, list := range map[string][]subvolume{
		"no operating system found: no ext2, ext3, ext4, XFS or btrfs file system has etc/os-release": {{"anything", debian("")}},
		"etc/fstab wants " + at + " on /home: open subvolume \"nothing\": file does not exist":        {{"root", debian(at + " /home btrfs subvol=nothing 0 0\n")}},
		"etc/fstab wants " + at + " on /: open subvolume 1000: file does not exist":                   {{"root", debian(at + " / btrfs subvolid=1000 0 0\n")}},
		"etc/fstab wants " + at + " on /home: strconv.ParseUint":                                      {{"root", debian(at + " /home btrfs subvolid=x 0 0\n")}},
	} {
		t.Run(want, func(t *testing.T) {
			if _, err := inspect(btrfsImage(t, "", list...)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		})
	}
}
