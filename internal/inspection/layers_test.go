package inspection

import (
	"bytes"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/peer"
	"herdbook/internal/volume"
)

// group makes a physical volume with two logical ones, vg/root and vg/srv-data.
func group(t testing.TB, root, srv []byte) (file string) {
	t.Helper()
	l := peer.NewLVM(t, 64*unit)
	l.Run("pvcreate", l.Loops[0])
	l.Run("vgcreate", "-s", "1m", "vg", l.Loops[0])
	l.Create("-l", "30", "-n", "root", "vg")
	l.Create("-l", "20", "-n", "srv-data", "vg")
	f, err := os.OpenFile(l.Files[0], os.O_RDWR, 0)
	peer.Must(t, err)
	for at, content := range map[int64][]byte{unit: root, 31 * unit: srv} {
		if len(content) > 20*unit {
			t.Fatalf("%d bytes are too many", len(content))
		}
		_, err := f.WriteAt(content, at)
		peer.Must(t, err)
	}
	peer.Must(t, f.Close())
	return l.Files[0]
}

func check(t *testing.T, s *System, devices string, mounts ...Mount) {
	t.Helper()
	if diff := cmp.Diff(mounts, s.Mounts); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	var names []string
	for _, d := range s.Devices {
		names = append(names, d.Name)
	}
	if got := strings.Join(names, " "); got != devices {
		t.Errorf("devices %q, want %q", got, devices)
	}
	for _, name := range []string{"etc/os-release", "srv/here"} {
		if _, err := fs.ReadFile(s.Tree(), name); err != nil {
			t.Error(err)
		}
	}
	if s.RootPartition() != 0 {
		t.Errorf("root partition %d", s.RootPartition())
	}
}

func TestLogicalVolumes(t *testing.T) {
	srv := ext4Image(t, map[string]string{"here": "x"}, "-L", "srv")
	for _, spec := range []string{"/dev/mapper/vg-srv--data", "/dev/vg/srv-data", "LABEL=srv"} {
		root := ext4Image(t, merge(debian("/dev/mapper/vg-root / ext4 defaults 0 1\n"+spec+" /srv ext4 defaults 0 1\n/dev/vda1 /boot/efi vfat\n"), "srv/", ""))
		s, err := inspect(table(t, "gpt", partition{"type=uefi", esp(t)}, partition{"type=lvm", read(t, group(t, root, srv))}))
		if err != nil {
			t.Fatal(err)
		}
		check(t, s, "vg-root vg-srv--data", Mount{0, "/", "ext4", "", "vg-root"}, Mount{0, "/srv", "ext4", "", "vg-srv--data"}, Mount{1, "/boot/efi", "vfat", "", ""})
	}
}

func TestEncryptedSystem(t *testing.T) {
	const passphrase = "open"
	root := debian("/dev/mapper/vg-root / ext4 defaults 0 1\n/dev/vg/srv-data /srv ext4 defaults\n")
	root["etc/crypttab"] = "# a comment\nvda1_crypt UUID=%s none luks,discard\nother /dev/sdb1 none\n"
	srv := ext4Image(t, map[string]string{"here": "x"})
	// The UUID is known only when all is encrypted, so it is chosen here.
	const uuid = "0f8fad5b-d9cb-469f-a165-70867728950e"
	root["srv/"] = ""
	root["etc/crypttab"] = strings.Replace(root["etc/crypttab"], "%s", uuid, 1)
	file := group(t, ext4Image(t, root), srv)
	p := read(t, file)
	file = t.TempDir() + "/encrypted"
	peer.Must(t, os.WriteFile(file, p, 0o600))
	peer.Encrypt(t, file, passphrase)
	peer.Run(t, "cryptsetup", "luksUUID", "-q", "--uuid", uuid, file)
	disk := table(t, "gpt", partition{"type=linux", read(t, file)})
	if _, err := inspect(disk); err == nil || !strings.Contains(err.Error(), "encrypted volume "+uuid+": it is encrypted (LUKS2); give the key of "+uuid) {
		t.Errorf("without a key: %v", err)
	}
	s, err := Disk(bytes.NewReader(disk), int64(len(disk)), volume.Key{Passphrase: []byte(passphrase)})
	if err != nil {
		t.Fatal(err)
	}
	check(t, s, "vda1_crypt vg-root vg-srv--data", Mount{0, "/", "ext4", "", "vg-root"}, Mount{0, "/srv", "ext4", "", "vg-srv--data"})

	// What fstab wants may be behind a key that nobody gave.
	root = debian("UUID=" + bootUUID + " /srv ext4 defaults\n")
	disk = table(t, "gpt", partition{"type=linux", ext4Image(t, root)}, partition{"type=linux", read(t, file)})
	if _, err := inspect(disk); err == nil || !strings.Contains(err.Error(), "not on this disk (encrypted volume "+uuid+": it is encrypted") {
		t.Errorf("a needed volume: %v", err)
	}
	root = debian("/dev/mapper/luks-" + uuid + " /srv ext4 defaults\n")
	disk = table(t, "gpt", partition{"type=linux", ext4Image(t, root)}, partition{"type=linux", read(t, file)})
	if _, err := inspect(disk); err == nil || !strings.Contains(err.Error(), "on /srv: encrypted volume "+uuid+": it is encrypted") {
		t.Errorf("a needed volume by its name: %v", err)
	}
}

func TestParseCrypttab(t *testing.T) {
	got := parseCrypttab([]byte("#x UUID=1\na UUID=AB none luks\n\nb\tUUID=\"cd\"\nc /dev/disk/by-uuid/ef\nd /dev/sda1 none\nonly\n"))
	if diff := cmp.Diff(map[string]string{"ab": "a", "cd": "b", "ef": "c"}, got); diff != "" {
		t.Error(diff)
	}
}
