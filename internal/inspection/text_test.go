package inspection

import (
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/disk"
	"herdbook/internal/volume"
)

func TestParseFstab(t *testing.T) {
	text := `# /etc/fstab: static file system information.
UUID=11111111-2222-3333-4444-555555555555 / ext4 errors=remount-ro 0 1
  LABEL=my\040disk	/srv/with\040space/  ext4
PARTUUID="0fc63daf" /a//b/../c auto defaults,umask=0077,nofail 0 2
/dev/vda1 /boot ext2 rw

#/dev/vda2 /commented ext4 defaults
UUID=x none swap sw 0 0
/swapfile swap swap defaults 0 0
tmpfs /tmp tmpfs nosuid 0 0
proc /proc proc defaults 0 0
/srv /mnt/bind none bind 0 0
/srv /mnt/rbind auto rbind 0 0
/dev/vdb1 /mnt/later ext4 noauto,user 0 0
/dev/sr0 /media/cdrom0 udf,iso9660 user 0 0
/dev/cdrom /media/cd auto ro 0 0
/dev/fd0 /media/floppy auto rw 0 0
server:/export /mnt/nfs nfs4 defaults 0 0
/dev/vdc1 /mnt/net ext4 _netdev 0 0
host:/ /mnt/ssh fuse.sshfs defaults 0 0
relative place ext4 defaults
only two
/dev/vda9
UUID=bad\999escape /bad\8\04 ext4 defaults
LABEL=\134\011 /tab\012line ext4 defaults
no end of line /x ext4`
	want := []fstabEntry{
		{"UUID=11111111-2222-3333-4444-555555555555", "/", "ext4", []string{"errors=remount-ro"}},
		{"LABEL=my disk", "/srv/with space", "ext4", nil},
		{`PARTUUID="0fc63daf"`, "/a/c", "auto", []string{"defaults", "umask=0077", "nofail"}},
		{"/dev/vda1", "/boot", "ext2", []string{"rw"}},
		{`UUID=bad\999escape`, `/bad\8\04`, "ext4", []string{"defaults"}},
		{"LABEL=\\\t", "/tab\nline", "ext4", []string{"defaults"}},
	}
	if diff := cmp.Diff(want, parseFstab([]byte(text)), cmp.AllowUnexported(fstabEntry{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestFstabFindsVolumes(t *testing.T) {
	volumes := []fileSystem{
		{Volume: volume.Volume{Partition: disk.Partition{Number: 1, ID: "aaaa-01", Name: "ESP"}}, kind: "vfat", uuid: "ABCD-1234"},
		{Volume: volume.Volume{Partition: disk.Partition{Number: 2, ID: "aaaa-02"}}, kind: "ext4", uuid: "1111", label: "root"},
		{Volume: volume.Volume{Partition: disk.Partition{Number: 12, ID: "aaaa-0c", Name: "data set"}}, kind: "ext4", uuid: "2222", label: "data=set"},
	}
	for spec, want := range map[string]int{
		"UUID=1111": 2, "UUID=abcd-1234": 1, `UUID="2222"`: 12, "LABEL=root": 2, "LABEL=data=set": 12, "LABEL=ROOT": 0, "PARTUUID=AAAA-0C": 12,
		"PARTLABEL=ESP": 1, "PARTLABEL=data set": 12, "/dev/disk/by-uuid/1111": 2, "/dev/disk/by-label/root": 2, "/dev/disk/by-partuuid/aaaa-01": 1, "/dev/disk/by-partlabel/ESP": 1,
		"/dev/vda2": 2, "/dev/sda12": 12, "/dev/hda1": 1, "/dev/xvda2": 2, "/dev/nvme0n1p12": 12, "/dev/mmcblk1p2": 2,
		// On other disks there is nothing of this one.
		"/dev/sdb1": 0, "/dev/vdb2": 0, "/dev/nvme1n1p2": 0, "/dev/nvme0n2p2": 0, "/dev/xvdf1": 0,
		"/dev/vda": 0, "/dev/vda3": 0, "/dev/vda02": 0, "/dev/mapper/vg-root": 0, "/dev/root": 0, "/dev/vda1/x": 0,
		// Volume 2 has no name, 1 no label: nothing must not find them.
		"UUID=": 0, "LABEL=": 0, `LABEL=""`: 0, "PARTLABEL=": 0, "PARTUUID=": 0, "/dev/disk/by-label/": 0, "": 0, "=": 0, "=x": 0, "ID=1": 0, "uuid=1111": 0,
	} {
		v, ok := fstabEntry{spec: spec}.find(volumes)
		if ok != (want != 0) || v.Partition.Number != want {
			t.Errorf("%q: partition %d, %v, want %d", spec, v.Partition.Number, ok, want)
		}
	}
}

func TestParseRelease(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want Release
	}{
		"debian":   {release, Release{"debian", "12", "bookworm", "Debian GNU/Linux 12 (bookworm)", []string{"one", "two"}}},
		"unquoted": {"ID=arch\nPRETTY_NAME=Arch", Release{ID: "arch", PrettyName: "Arch"}},
		"quotes":   {"ID='single \\$'\nPRETTY_NAME=\"a \\\"b\\\" \\$c \\`d\\` \\\\ \\n\"\nVERSION_ID=\"half\n", Release{ID: `single \$`, PrettyName: "a \"b\" $c `d` \\ \\n", VersionID: `"half`}},
		"comments": {"# ID=no\n#ID=no\n\nnonsense\n ID =x\nID=yes \r\nOTHER=1\n", Release{ID: "yes"}},
		"twice":    {"ID=a\nID=b\n", Release{ID: "b"}},
		"long":     {"HOME_URL=" + strings.Repeat("x", 100<<10) + "\nID=still\n", Release{ID: "still"}},
		"empty":    {"", Release{}},
		"one":      {"ID=\"\nVERSION_ID=''\nVERSION_CODENAME=\"\"\n", Release{ID: `"`}},
	} {
		if diff := cmp.Diff(c.want, parseRelease([]byte(c.text))); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

func FuzzParseFstab(f *testing.F) {
	for _, seed := range []string{"UUID=x / ext4 defaults 0 1\n", "LABEL=a\\040b /c\\011 vfat umask=0077,\\054", "/dev/vda1 /..//../x ext4", "\\ \\0 \\00 \\000", "\xff /\xff\x00 \xff"} {
		f.Add([]byte(seed))
	}
	volumes := []fileSystem{{Volume: volume.Volume{Partition: disk.Partition{Number: 1}}}, {Volume: volume.Volume{Partition: disk.Partition{Number: 2, ID: "i", Name: "n"}}, uuid: "u", label: "l"}}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, e := range parseFstab(text) {
			if !path.IsAbs(e.dir) || path.Clean(e.dir) != e.dir {
				t.Errorf("%q is mounted on %q", text, e.dir)
			}
			if strings.ContainsAny(e.mountOptions(), " ") && !strings.ContainsAny(strings.Join(e.options, ""), " ") {
				t.Errorf("%q has options %q", text, e.mountOptions())
			}
			if v, ok := e.find(volumes); ok && v.Partition.Number == 0 {
				t.Errorf("%q found nothing", text)
			}
		}
	})
}

func FuzzParseRelease(f *testing.F) {
	f.Add([]byte(release))
	f.Add([]byte("ID=\"\\\"\nID='\nID=\"\\"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r := parseRelease(text)
		if strings.Contains(r.ID+r.VersionID+r.Codename+r.PrettyName, "\n") {
			t.Errorf("%q has a line break in a value: %+v", text, r)
		}
	})
}
