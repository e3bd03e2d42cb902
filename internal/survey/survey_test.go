package survey

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"herdbook/internal/disk"
	"herdbook/internal/inspection"
	"herdbook/internal/peer"
	"herdbook/internal/pkgdb"
)

// sample is a survey of which every part has something to tell.
func sample() *Survey {
	return &Survey{
		Image: Image{"images/web.qcow2", disk.QCOW2, 2 << 30, "gpt", "0b5c6d1e-8c1d-4f0e-9d7f-2f1a3b4c5d6e"},
		Partitions: []Partition{
			{1, 1 << 20, 127 << 20, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "EFI system", "11111111-1111-1111-1111-111111111111", "esp", false},
			{2, 128 << 20, 1919 << 20, "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "Linux root (x86-64)", "22222222-2222-2222-2222-222222222222", "root\x1b[31m", false},
			{3, 2047 << 20, 1 << 20, "01234567-89AB-CDEF-0123-456789ABCDEF", "", "", "", true},
		},
		FileSystems: []FileSystem{
			{2, "", "/", "ext4", "8a1b2c3d-0000-4000-8000-000000000001", "root", 1919 << 20, 1234 << 20},
			{1, "", "/boot/efi", "vfat", "", "", 0, 0},
		},
		System: System{
			Release: inspection.Release{ID: "debian", VersionID: "12", PrettyName: "Debian GNU/Linux 12 (bookworm)"}, Architecture: "amd64", Hostname: "web",
			Fstab:   []FstabLine{{"UUID=8a1b2c3d-0000-4000-8000-000000000001", "/", "ext4", "errors=remount-ro"}, {"/dev/vda1", "/boot/efi", "vfat", "umask=0077"}},
			Kernels: []Kernel{{"6.1.0-18-cloud-amd64", "/boot/vmlinuz-6.1.0-18-cloud-amd64", "/boot/initrd.img-6.1.0-18-cloud-amd64", "/lib/modules/6.1.0-18-cloud-amd64"}, {"6.1.0-9-amd64", "/boot/vmlinuz-6.1.0-9-amd64", "", "/lib/modules/6.1.0-9-amd64"}},
			Databases: []pkgdb.Database{{Manager: "dpkg", Format: "status", Path: "var/lib/dpkg/status", Packages: []pkgdb.Package{
				{Name: "bash", Version: "5.2.15-2+b2", Architecture: "amd64", Size: 7 << 20, Summary: "GNU Bourne Again SHell"}, {Name: "zlib1g", Version: "1:1.2.13.dfsg-1", Architecture: "amd64", Size: 168 << 10},
			}}},
			Users:  []User{{"root", "0", "0", "root", "/root", "/bin/bash", true, "locked", "*"}, {"daemon", "1", "1", "daemon", "/usr/sbin", "/usr/sbin/nologin", false, "locked", "*"}, {"ada", "1000", "1000", "Ada", "/home/ada", "/bin/zsh", true, "set", "$y$secret"}},
			Groups: []Group{{"root", "0", nil}, {"sudo", "27", []string{"ada"}}},
			Units:  []Unit{{"cloud-init.service", "enabled"}, {"cron.service", "enabled"}, {"getty@tty1.service", "enabled"}, {"networkd-dispatcher.service", "enabled"}, {"ssh.service", "enabled"}, {"systemd-timesyncd.service", "masked"}},
			Sizes: []DirectorySize{
				{"/", 1100 << 20, 31000}, {"/boot", 60 << 20, 9}, {"/boot/grub", 30 << 20, 300}, {"/etc", 1 << 10, 800}, {"/mnt", 0, 0}, {"/usr", 900 << 20, 30000},
				{"/usr/bin", 100 << 20, 900}, {"/usr/lib", 700 << 20, 9000}, {"/usr/share", 20 << 20, 20000}, {"/var", 40 << 20, 100}, {"/var/a\nb", 30 << 20, 1},
			},
		},
	}
}

func TestText(t *testing.T) {
	text := sample().Text(true)
	peer.Golden(t, "survey.txt", []byte(text))
	for line := range strings.Lines(text) {
		if len(line) > 101 {
			t.Errorf("%d signs: %s", len(line), line)
		}
	}
	if without := sample().Text(false); !strings.HasPrefix(text, without) || strings.Contains(without, "zlib1g") {
		t.Errorf("without packages:\n%s", without)
	}
	if strings.Contains(text, "\x1b") || strings.Contains(text, "$y$") {
		t.Errorf("%q", text)
	}
	if p, err := json.Marshal(new(Survey).whole()); err != nil || bytes.Contains(p, []byte("null")) {
		t.Errorf("lists of nothing: %s, %v", p, err)
	}
	if empty := (&Survey{}).Text(true); strings.Count(empty, "\n") != 4 {
		t.Errorf("of nothing:\n%s", empty)
	}
}

func TestJSON(t *testing.T) {
	p, err := json.MarshalIndent(sample(), "", "  ")
	peer.Must(t, err)
	peer.Golden(t, "survey.json", append(p, '\n'))
	if bytes.Contains(p, []byte("$y$")) {
		t.Error("the JSON tells a password's hash")
	}
}

// system is the tree of a small one.
var system = map[string]string{
	"etc/os-release": "ID=debian\nPRETTY_NAME='Test 1'\n", "etc/hostname": "# the name\nbox.example.org\n", "etc/fstab": "LABEL=r / ext4 ro,noatime 0 1\n# a comment\nnone /tmp tmpfs\nbad\n",
	"etc/passwd":          "root:x:0:0:root:/root:/bin/bash\nbin:x:1:1::/:/usr/sbin/nologin\nada:x:1000:1000:Ada,,,:/home/ada:\nnopass::1001:1001::/home/n:/bin/sh\nold:abcdefghijklm:1002:1::/:/bin/sh\nbroken:x\n",
	"etc/shadow":          "root:*:19000::::::\nbin:!:::::::\nada:$6$salt$hash:19000:0:99999:7:::\n",
	"etc/group":           "root:x:0:\nsudo:x:27:ada, nopass\nbroken\n",
	"var/lib/dpkg/status": "Package: base\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n",
	"usr/share/doc/x":     strings.Repeat("x", 1000), "usr/share/y": strings.Repeat("y", 200), "usr/z": strings.Repeat("z", 30), "top": "1", "opt/": "",
}

// image makes a file system of a tree: a link is "-> TARGET", a hard link
// "=> NAME".
func image(t testing.TB, tree map[string]string) string {
	t.Helper()
	peer.NeedTool(t, "mke2fs")
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "image")
	for _, hard := range []bool{false, true} {
		for name, content := range tree {
			p := filepath.Join(dir, name)
			first, isHard := strings.CutPrefix(content, "=> ")
			target, isLink := strings.CutPrefix(content, "-> ")
			peer.Must(t, os.MkdirAll(filepath.Dir(p), 0o755))
			switch {
			case hard != isHard:
			case isHard:
				peer.Must(t, os.Link(filepath.Join(dir, first), p))
			case isLink:
				peer.Must(t, os.Symlink(target, p))
			case strings.HasSuffix(name, "/"):
				peer.Must(t, os.MkdirAll(p, 0o755))
			default:
				peer.Must(t, os.WriteFile(p, []byte(content), 0o644))
			}
		}
	}
	peer.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-L", "r", "-U", "11111111-2222-3333-4444-555555555555", "-d", dir, file, "4M")
	return file
}

// opened is the system in an image.
func opened(t testing.TB, name string) *inspection.System {
	t.Helper()
	data, err := os.ReadFile(name)
	peer.Must(t, err)
	s, err := inspection.Disk(bytes.NewReader(data), int64(len(data)))
	peer.Must(t, err)
	return s
}

func TestTake(t *testing.T) {
	tree := map[string]string{"usr/hard": "=> usr/share/doc/x", "a-hard": "=> usr/share/doc/x", "usr/share/link": "-> doc/x", "etc/systemd/system/multi-user.target.wants/ssh.service": "-> /lib/systemd/system/ssh.service"}
	for name, content := range system {
		tree[name] = content
	}
	file := image(t, tree)
	table := &disk.Table{Kind: "mbr", ID: "0x1234", Partitions: []disk.Partition{{Number: 1, Start: 512, Size: 1024, Type: "0x83", Active: true}}}
	got, err := Take(Image{Path: "x", Format: disk.Raw, Size: 4 << 20}, table, opened(t, file))
	peer.Must(t, err)
	used := got.FileSystems[0].Used
	if used <= 0 || used >= 4<<20 {
		t.Errorf("%d bytes are in use", used)
	}
	etc := int64(0) // bytes
	for _, name := range []string{"os-release", "hostname", "fstab", "passwd", "shadow", "group"} {
		etc += int64(len(system["etc/"+name]))
	}
	unit := int64(len("/lib/systemd/system/ssh.service"))
	status := int64(len(system["var/lib/dpkg/status"]))
	want := &Survey{
		Image:       Image{"x", disk.Raw, 4 << 20, "mbr", "0x1234"},
		Partitions:  []Partition{{1, 512, 1024, "0x83", "Linux", "", "", true}},
		FileSystems: []FileSystem{{0, "", "/", "ext4", "11111111-2222-3333-4444-555555555555", "r", 4 << 20, used}},
		System: System{
			Release: inspection.Release{ID: "debian", PrettyName: "Test 1"}, Hostname: "box.example.org",
			Fstab:     []FstabLine{{"LABEL=r", "/", "ext4", "ro,noatime"}, {"none", "/tmp", "tmpfs", ""}},
			Databases: []pkgdb.Database{{Manager: "dpkg", Format: "status", Path: "var/lib/dpkg/status", Packages: []pkgdb.Package{{Name: "base", Version: "1", Architecture: "all"}}}},
			Users: []User{
				{"root", "0", "0", "root", "/root", "/bin/bash", true, "locked", "*"}, {"bin", "1", "1", "", "/", "/usr/sbin/nologin", false, "locked", "!"},
				{"ada", "1000", "1000", "Ada,,,", "/home/ada", "/bin/sh", true, "set", "$6$salt$hash"}, {"nopass", "1001", "1001", "", "/home/n", "/bin/sh", true, "empty", ""},
				{"old", "1002", "1", "", "/", "/bin/sh", true, "set", "abcdefghijklm"},
			},
			Groups: []Group{{"root", "0", nil}, {"sudo", "27", []string{"ada", "nopass"}}},
			Units:  []Unit{{"ssh.service", "enabled"}},
			Sizes: []DirectorySize{
				{"/", 1 + 1000 + 5 + 200 + 30 + etc + unit + status, 15}, {"/etc", etc + unit, 7}, {"/etc/systemd", unit, 1}, {"/lost+found", 0, 0}, {"/opt", 0, 0},
				// The first name of the file with three is /a-hard.
				{"/usr", 5 + 200 + 30, 5}, {"/usr/share", 5 + 200, 3}, {"/var", status, 1}, {"/var/lib", status, 1},
			},
		},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(User{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What du counts with --apparent-size is told, without what directories take themselves.
func TestSizesAgreeWithDu(t *testing.T) {
	peer.NeedTool(t, "du", "find")
	dir := "/usr/share/doc"
	file := filepath.Join(t.TempDir(), "image")
	tree := t.TempDir()
	peer.Must(t, os.MkdirAll(filepath.Join(tree, "etc"), 0o755))
	for _, name := range []string{"etc/os-release", "etc/hosts"} {
		peer.Must(t, os.WriteFile(filepath.Join(tree, name), []byte("ID=x\n"), 0o644))
	}
	peer.Run(t, "sh", "-c", fmt.Sprintf("cd %s && find . -maxdepth 3 -path './lib*' -prune -o -type f -size -100k -print | head -2000 | cpio --quiet -pdm %s/doc", dir, tree))
	peer.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, file, "200M")
	got, err := sizes(opened(t, file).Tree())
	peer.Must(t, err)
	total := int64(0)
	for _, d := range got {
		out := peer.Run(t, "sh", "-c", `[ -d "$0" ] || exit 0; du -sb "$0" | cut -f1; find "$0" -type d -printf '%s\n'`, filepath.Join(tree, d.Dir))
		if out == "" {
			continue // lost+found
		}
		want, first := int64(0), true
		for line := range strings.Lines(out) {
			n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
			peer.Must(t, err)
			if first {
				want, first = n, false
			} else {
				want -= n
			}
		}
		if d.Bytes != want {
			t.Errorf("%s: %d bytes, du counts %d", d.Dir, d.Bytes, want)
		}
		total += want
	}
	if total < 1<<20 {
		t.Errorf("%d bytes are too few for a test", total)
	}
}

// Units are what systemctl says of a tree in which it enabled and masked them.
func TestUnitsAgreeWithSystemctl(t *testing.T) {
	peer.NeedTool(t, "systemctl")
	dir := t.TempDir()
	units := filepath.Join(dir, "usr/lib/systemd/system")
	peer.Must(t, os.MkdirAll(units, 0o755))
	for name, install := range map[string]string{
		"a.service": "WantedBy=multi-user.target", "b.timer": "RequiredBy=timers.target", "alias.service": "Alias=other.service", "off.service": "WantedBy=multi-user.target",
		"mask.service": "WantedBy=multi-user.target", "getty@.service": "WantedBy=getty.target\nDefaultInstance=tty1", "also.service": "WantedBy=multi-user.target\nAlias=more.service",
		"multi-user.target": "", "graphical.target": "Alias=default.target", "timers.target": "", "getty.target": "",
	} {
		text := "[Unit]\nDescription=x\n"
		if strings.HasSuffix(name, ".service") {
			text += "[Service]\nExecStart=/bin/true\n"
		} else if strings.HasSuffix(name, ".timer") {
			text += "[Timer]\nOnBootSec=1\n"
		}
		peer.Must(t, os.WriteFile(filepath.Join(units, name), []byte(text+"[Install]\n"+install+"\n"), 0o644))
	}
	peer.Run(t, "systemctl", "--root="+dir, "enable", "a.service", "b.timer", "alias.service", "getty@.service", "also.service", "off.service")
	peer.Run(t, "systemctl", "--root="+dir, "disable", "off.service")
	peer.Run(t, "systemctl", "--root="+dir, "mask", "mask.service")
	peer.Run(t, "systemctl", "--root="+dir, "set-default", "multi-user.target")
	var want []string
	for line := range strings.Lines(peer.Run(t, "systemctl", "--root="+dir, "list-unit-files", "--state=enabled,masked", "--no-legend", "--no-pager")) {
		f := strings.Fields(line)
		want = append(want, strings.Replace(f[0], "getty@.", "getty@tty1.", 1)+" "+f[1])
	}
	var s System
	peer.Must(t, s.readUnits(os.DirFS(dir)))
	var got []string
	for _, u := range s.Units {
		got = append(got, u.Name+" "+u.State)
	}
	if diff := cmp.Diff(want, got, cmpopts.SortSlices(strings.Compare)); diff != "" || len(got) != 6 {
		t.Errorf("(-systemctl +got)\n%s", diff)
	}
}

func TestConfigurationRefuses(t *testing.T) {
	for name, tree := range map[string]fs.FS{
		"large":     fstest.MapFS{"etc/passwd": {Data: make([]byte, maxText+1)}},
		"directory": fstest.MapFS{"etc/group/x": {}},
		"units":     fstest.MapFS{"etc/systemd/system": {}},
	} {
		var s System
		if err := s.readConfiguration(tree); err == nil || strings.HasPrefix(name, "large") && !strings.Contains(err.Error(), "read etc/passwd: it has more than 4194304 bytes") {
			t.Errorf("%s: %v", name, err)
		}
	}
	var s System
	if err := s.readConfiguration(fstest.MapFS{}); err != nil || s.Hostname != "" || s.Users != nil {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", -5: "-5 B", 1024: "1.0 KiB", -1536: "-1.5 KiB", 1 << 40: "1.0 TiB", 1<<63 - 1: "8.0 EiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

// Sums of what a guest claims do not run over.
func TestCountEnds(t *testing.T) {
	d := DirectorySize{}
	for range 3 {
		d.count(1 << 62)
	}
	d.count(-1)
	if d.Bytes != 1<<63-1 || d.Files != 4 {
		t.Errorf("%+v", d)
	}
}
