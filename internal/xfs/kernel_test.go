package xfs

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"herdbook/internal/filesystem"
	"herdbook/internal/filesystem/readertest"
	"herdbook/internal/peer"
)

// mount lets the kernel mount an image, for this test alone.
func mount(t testing.TB, image string, options ...string) string {
	t.Helper()
	return readertest.Mount(t, "xfs", image, append([]string{"nouuid"}, options...)...)
}

var random = rand.New(rand.NewSource(1))

func bytesOf(n int) []byte { p := make([]byte, n); random.Read(p); return p }

// fill makes a tree with everything that a file system can hold.
func fill(t testing.TB, dir string) {
	t.Helper()
	readertest.Plant(t, dir)
	for _, size := range []int{1, 10, 60, 100, 150, 155, 156, 157, 200, 330, 336, 337, 500, 968, 969, 1000, 1023} {
		target := strings.Repeat("long/", 205)[:size]
		peer.Must(t, os.Symlink(target, filepath.Join(dir, fmt.Sprintf("link-%04d", size))))
	}
	peer.Must(t, os.Chown(filepath.Join(dir, "block"), 70000, 4000000000))
	peer.Must(t, syscall.Mknod(filepath.Join(dir, "socket"), syscall.S_IFSOCK|0o660, 0))
	for i, when := range []time.Time{
		time.Date(1903, 2, 1, 3, 4, 5, 678901234, time.UTC), time.Date(1999, 2, 1, 3, 4, 5, 999999999, time.UTC), time.Date(2037, 12, 31, 23, 59, 59, 1, time.UTC),
		time.Date(2039, 2, 1, 3, 4, 5, 678901234, time.UTC), time.Date(2400, 2, 1, 3, 4, 5, 678901234, time.UTC),
	} { // what it cannot hold, the kernel clamps
		name := filepath.Join(dir, fmt.Sprintf("time-%d", i))
		peer.Must(t, os.WriteFile(name, nil, 0o644))
		peer.Must(t, os.Chtimes(name, when, when.Add(time.Second)))
	}
	fillHoles(t, dir)
	share(t, dir)
	fillDirs(t, dir)
	fillXattrs(t, dir)
}

// fillHoles makes sparse files, of more extents than an inode holds too.
func fillHoles(t testing.TB, dir string) {
	t.Helper()
	for name, offsets := range map[string][]int64{"sparse": {0, 1 << 20, 20 << 20}, "giant": {1 << 30, 5 << 40}, "behind": nil} {
		file, err := os.Create(filepath.Join(dir, name))
		peer.Must(t, err)
		for _, off := range offsets {
			_, err := file.WriteAt(bytesOf(4096), off)
			peer.Must(t, err)
		}
		peer.Must(t, errors.Join(file.Truncate(6<<40), file.Close()))
	}
	pieces, err := os.Create(filepath.Join(dir, "pieces"))
	peer.Must(t, err)
	for i := range 1500 {
		_, err := pieces.WriteAt(bytesOf(4096), int64(i)*8192)
		peer.Must(t, err)
	}
	readertest.Sync(t, dir)
	for range 200 {
		peer.Must(t, unix.Fallocate(int(pieces.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, random.Int63n(9<<20)&^4095, 4096))
	}
	// Reserved and never written: zeros, within the file and behind it.
	peer.Must(t, unix.Fallocate(int(pieces.Fd()), 0, 30<<20, 1<<20))
	peer.Must(t, unix.Fallocate(int(pieces.Fd()), unix.FALLOC_FL_KEEP_SIZE, 40<<20, 1<<20))
	_, err = pieces.WriteAt([]byte("in the midst of it"), 30<<20+100000)
	peer.Must(t, errors.Join(err, pieces.Close()))
}

// share makes a file that shares most of its blocks with another, where the
// file system can.
func share(t testing.TB, dir string) {
	t.Helper()
	source, err := os.Open(filepath.Join(dir, "large"))
	peer.Must(t, err)
	defer source.Close()
	shared, err := os.Create(filepath.Join(dir, "shared"))
	peer.Must(t, err)
	if err := unix.IoctlFileClone(int(shared.Fd()), int(source.Fd())); !errors.Is(err, unix.EOPNOTSUPP) {
		peer.Must(t, err)
	}
	_, err = shared.WriteAt(bytesOf(10000), 100000)
	peer.Must(t, errors.Join(err, shared.Close()))
}

// fillDirs makes directories in every format, dense ones and ones with gaps.
func fillDirs(t testing.TB, dir string) {
	t.Helper()
	for _, count := range []int{1, 5, 10, 30, 70, 120, 400, 3000} {
		names := filepath.Join(dir, fmt.Sprintf("names-%d", count))
		peer.Must(t, os.Mkdir(names, 0o755))
		for i := range count {
			peer.Must(t, os.Link(filepath.Join(dir, "empty"), filepath.Join(names, fmt.Sprintf("%s-%d", strings.Repeat("a", i%60), i))))
		}
		for i := 0; i < count; i += 7 {
			peer.Must(t, os.Remove(filepath.Join(names, fmt.Sprintf("%s-%d", strings.Repeat("a", i%60), i))))
		}
	}
}

// fillXattrs gives files attributes of all sizes and numbers.
func fillXattrs(t testing.TB, dir string) {
	t.Helper()
	set := func(name, attr string, value []byte) {
		peer.Must(t, unix.Setxattr(filepath.Join(dir, name), attr, value, 0))
	}
	for _, size := range []int{0, 1, 50, 200, 255, 256, 900, 2000, 3000, 3900, 4000, 4040, 4041, 5000, 20000, 65536} {
		name := fmt.Sprintf("attribute-%05d", size)
		peer.Must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
		set(name, "user.a", bytesOf(size))
		set(name, "trusted.b", bytesOf(size))
	}
	for _, count := range []int{3, 20, 100, 1500} {
		name := fmt.Sprintf("attributes-%d", count)
		peer.Must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
		for i := range count {
			set(name, fmt.Sprintf("user.%s-%d", strings.Repeat("n", i%11), i), bytesOf(i%97))
		}
	}
	acl := []byte{2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 5, 0, 1, 2, 3, 0, 4, 0, 4, 0, 255, 255, 255, 255, 8, 0, 4, 0, 9, 8, 7, 0, 16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
	set("tiny", "system.posix_acl_access", acl)
	set("sticky", "system.posix_acl_default", acl)
}

// variants are mkfs.xfs options: the defaults of its versions since 2014, and all
// else. Many a kernel cannot mount version 4 any more.
var variants = map[string]string{
	"now":       "",
	"4.0":       "-m crc=1,finobt=0,rmapbt=0,reflink=0,bigtime=0,inobtcount=0 -i sparse=0",
	"64k-names": "-n size=64k -b size=1k -m rmapbt=1,inobtcount=1 -i nrext64=1",
	"groups":    "-i size=1024 -s size=4k -d agcount=16,su=64k,sw=4",
}

// What the kernel sees is the truth: every file, time, attribute and hole.
func TestTheKernelSeesTheSame(t *testing.T) {
	for name, options := range variants {
		t.Run(name, func(t *testing.T) {
			image := makeImage(t, options, "300M")
			dir := mount(t, image)
			fill(t, dir)
			peer.Must(t, unix.Unmount(dir, 0))
			f := openImage(t, image)
			compareWithKernel(t, f, mount(t, image, "ro"))
			compareUsed(t, f, image)
		})
	}
}

func TestADirectoryOfFiftyThousand(t *testing.T) {
	image := makeImage(t, "", "300M")
	dir := mount(t, image)
	peer.Must(t, os.WriteFile(filepath.Join(dir, "one"), nil, 0o644))
	for i := range 50000 {
		peer.Must(t, os.Link(filepath.Join(dir, "one"), filepath.Join(dir, fmt.Sprintf("a-name-of-some-length-%06d", i*7919%50000))))
	}
	peer.Must(t, unix.Unmount(dir, 0))
	f := openImage(t, image)
	list, err := f.ReadDir(".")
	if err != nil || len(list) != 50001 || list[0].Name() != "a-name-of-some-length-000000" || list[49999].Name() != "a-name-of-some-length-049999" {
		t.Errorf("%d names, %v", len(list), err)
	}
	if one, err := f.Stat("a-name-of-some-length-031415"); err != nil || one.Sys().(*filesystem.Stat).Nlink != 50001 {
		t.Errorf("%+v, %v", one, err)
	}
}

// Numbers of inodes have more than four bytes from the second TiB on, and
// directories in inodes then have them all with eight.
func TestLargeInodeNumbers(t *testing.T) {
	image := makeImage(t, "-d agsize=1023g -l size=64m", "8T")
	dir := mount(t, image)
	for i := range 40 { // directories go to all groups in turn
		name := filepath.Join(dir, fmt.Sprintf("dir-%d", i))
		peer.Must(t, os.Mkdir(name, 0o755))
		peer.Must(t, os.WriteFile(filepath.Join(name, "file"), []byte(name), 0o644))
		peer.Must(t, os.Link(filepath.Join(name, "file"), filepath.Join(dir, fmt.Sprintf("link-%d", i))))
		peer.Must(t, os.Link(filepath.Join(name, "file"), filepath.Join(dir, "dir-0", fmt.Sprintf("l%d", i))))
	}
	peer.Must(t, unix.Unmount(dir, 0))
	f, most := openImage(t, image), uint64(0)
	peer.Must(t, f.Walk(func(_ string, e *filesystem.Entry) error {
		s, err := e.Stat()
		most = max(most, s.Ino)
		return err
	}))
	if most < 1<<32 {
		t.Errorf("the largest inode is %d: this tests nothing", most)
	}
	compareWithKernel(t, f, mount(t, image, "ro"))
}

func TestAFileOnTheRealtimeDeviceIsRefused(t *testing.T) {
	image := makeImage(t, "", "64M")
	dir := mount(t, image)
	peer.Must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("elsewhere"), 0o644))
	peer.Must(t, os.WriteFile(filepath.Join(dir, "other"), []byte("here"), 0o644))
	peer.Must(t, unix.Unmount(dir, 0))
	stat, err := openImage(t, image).Stat("file")
	peer.Must(t, err)
	peer.Run(t, "xfs_db", "-x", "-c", fmt.Sprintf("inode %d", stat.Sys().(*filesystem.Stat).Ino), "-c", "write core.realtime 1", image)
	f := openImage(t, image)
	if _, err := f.ReadFile("file"); err == nil || !strings.Contains(err.Error(), "realtime device") {
		t.Error(err)
	}
	if p, err := f.ReadFile("other"); string(p) != "here" || err != nil {
		t.Errorf("%q, %v", p, err)
	}
}

// What is idle can be zeroed: the file system is as sound as before, what is in
// use stays, and nothing is left in the log of what was deleted.
func TestIdleRangesMeanNothing(t *testing.T) {
	for _, options := range []string{"", "-l size=5M -i sparse=0 -m finobt=0,reflink=0,rmapbt=0", "-b size=1k -l size=20m,su=256k"} {
		t.Run(strings.ReplaceAll(options, " ", "_"), func(t *testing.T) {
			image := makeImage(t, options, "100M")
			const deleted = "deleted-and-not-to-be-found-again"
			for round := range 3 {
				dir := mount(t, image)
				for i := range 2000 {
					name := filepath.Join(dir, fmt.Sprintf("%s-%d", deleted, i))
					peer.Must(t, os.WriteFile(name, []byte(deleted), 0o644))
					if i%100 == 0 {
						readertest.Sync(t, dir)
					}
				}
				for i := range 2000 {
					peer.Must(t, os.Remove(filepath.Join(dir, fmt.Sprintf("%s-%d", deleted, i))))
				}
				peer.Must(t, os.Mkdir(filepath.Join(dir, fmt.Sprint(round)), 0o755))
				peer.Must(t, unix.Unmount(dir, 0))
				before, err := os.ReadFile(image)
				peer.Must(t, err)
				after := bytes.Clone(before)
				f := openImage(t, image)
				peer.Must(t, f.IdleRanges(func(start, length int64) error {
					clear(after[start:][:length])
					return nil
				}))
				// A directory may hold what was deleted from it, and so the log alone is
				// looked at, without the last record, which may be long.
				logOf := func(image []byte) []byte {
					p := bytes.Clone(image[f.log.start:][:f.log.size*logSector])
					for at := f.log.last; at != f.log.head; at = f.log.after(at, 1) {
						clear(p[at*logSector:][:logSector])
					}
					return p
				}
				if !bytes.Contains(logOf(before), []byte(deleted)) {
					t.Fatal("nothing of it is in the log anyway")
				}
				if bytes.Contains(logOf(after), []byte(deleted)) {
					t.Error("something of it is left in the log")
				}
				peer.Must(t, os.WriteFile(image, after, 0o600))
				peer.Run(t, "xfs_repair", "-n", image)
				compareWithKernel(t, openImage(t, image), mount(t, readertest.CutOff(t, image)))
			}
		})
	}
}

// What newer versions of mkfs.xfs switch on is two bits of the superblock: with the
// one, the kernel keeps in attributes of its own where a file has its names.
func TestParentPointers(t *testing.T) {
	image := makeImage(t, "-s size=512", "300M")
	file, err := os.OpenFile(image, os.O_RDWR, 0)
	peer.Must(t, err)
	super := make([]byte, 512)
	_, err = file.ReadAt(super, 0)
	peer.Must(t, err)
	super[219] |= incompatParent | incompatExch
	seal512(super)
	_, err = file.WriteAt(super, 0)
	peer.Must(t, errors.Join(err, file.Close()))
	dir := mount(t, image)
	fill(t, dir)
	peer.Must(t, unix.Unmount(dir, 0))
	f := openImage(t, image)
	compareWithKernel(t, f, mount(t, image, "ro"))
	stat, err := f.Stat("empty")
	peer.Must(t, err)
	n, err := f.readInode(stat.Sys().(*filesystem.Stat).Ino)
	peer.Must(t, err)
	if n.attrs.extents == 0 {
		t.Error("a file of many names has no attributes: this tests nothing")
	}
}

// A file system that has got another UUID keeps the old one in all its blocks.
func TestAnotherUUID(t *testing.T) {
	image := makeImage(t, "", "64M")
	dir := mount(t, image)
	for i := range 100 {
		peer.Must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%d", i)), []byte("content"), 0o644))
	}
	peer.Must(t, unix.Unmount(dir, 0))
	const other = "12345678-1234-1234-1234-123456789abc"
	peer.Run(t, "xfs_admin", "-U", other, image)
	f := openImage(t, image)
	if f.UUID != other {
		t.Errorf("it is %s", f.UUID)
	}
	compareWithKernel(t, f, mount(t, image, "ro"))
	compareUsed(t, f, image)
}

// compareWithKernel compares all of a file system with its mount.
func compareWithKernel(t *testing.T, f *FS, dir string) {
	t.Helper()
	readertest.Comparison{Runs: true, Attributes: withoutDoubles}.Tree(t, f.FS, dir)
}

// compareAnew compares a file system with a mount of what it was made anew from, of
// which not all is kept.
func compareAnew(t *testing.T, f *FS, dir string) {
	t.Helper()
	readertest.Comparison{
		Attributes: withoutDoubles,
		Fields: func(_ string, fields readertest.Fields) {
			fields.Delete("number", "changed", "made", "read")
			if fields["mode"].Got&filesystem.ModeType == filesystem.ModeDir {
				fields.Delete("size")
			}
			if seconds := fields["modified"].Want / 1e9; seconds < -1<<31 || seconds >= 1<<31 {
				fields.Delete("modified")
			}
		},
	}.Tree(t, f.FS, dir)
}

// withoutDoubles leaves out the access control lists that root is shown a second time.
func withoutDoubles(_, want map[string][]byte) {
	maps.DeleteFunc(want, func(attr string, _ []byte) bool { return strings.HasPrefix(attr, "trusted.SGI_ACL_") })
}

// Many a kernel cannot mount version 4 any more. That of libguestfs's appliance,
// Debian's, can: it copies a tree from version 5.
func TestVMVersionFour(t *testing.T) {
	peer.NeedTool(t, "guestfish")
	source := makeImage(t, "-L from", "300M")
	dir := mount(t, source)
	fill(t, dir)
	peer.Must(t, unix.Unmount(dir, 0))
	options := []string{"-m crc=0 -n ftype=0 -i size=256,attr=1", "-m crc=0 -n ftype=1 -b size=1k", "-m crc=0 -b size=512 -n size=4k"}
	args, script := []string{"--format=raw", "-a", source}, "run\ndebug sh \"mkdir /tmp/source /tmp/to; mount -o ro,norecovery LABEL=from /tmp/source\"\n"
	var images []string
	for i, o := range options {
		images = append(images, makeImage(t, fmt.Sprintf("%s -L to%d", o, i), "300M"))
		args = append(args, "-a", images[i])
		// By their labels: the kernel there does not promise the order of its disks.
		script += fmt.Sprintf("debug sh \"mount LABEL=to%d /tmp/to && cp -a /tmp/source/. /tmp/to/ && umount /tmp/to && echo copied\"\n", i)
	}
	fish := exec.Command("guestfish", args...)
	fish.Stdin = strings.NewReader(script)
	fish.Env = append(os.Environ(), "LIBGUESTFS_BACKEND=direct", "LIBGUESTFS_BACKEND_SETTINGS=force_tcg")
	if out, err := fish.CombinedOutput(); err != nil || strings.Count(string(out), "copied") != len(options) {
		t.Fatalf("guestfish: %v\n%s", err, out)
	}
	dir = mount(t, source, "ro")
	for i, image := range images {
		f := openImage(t, image)
		compareAnew(t, f, dir)
		compareUsed(t, f, image)
		if t.Failed() {
			t.Fatalf("that was of %s", options[i])
		}
	}
}

// A machine that was cut off leaves a log that has not been replayed. It is
// refused, or what is read is what the kernel reads.
func TestADirtyLogIsRefused(t *testing.T) {
	for _, options := range []string{"", "-b size=1k", "-l su=256k,size=20m", "-m rmapbt=1 -i nrext64=1"} {
		t.Run(strings.ReplaceAll(options, " ", "_"), func(t *testing.T) {
			image := makeImage(t, options, "200M")
			dir := mount(t, image)
			fresh := readertest.CutOff(t, image) // nothing was changed yet
			openImage(t, fresh)
			write := func(name string) {
				peer.Must(t, os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte(name), 1000), 0o644))
			}
			refused := func(path, what string) {
				t.Helper()
				if _, err := tryImage(t, path); !errors.Is(err, ErrDirty) {
					t.Errorf("%s: %v", what, err)
				}
			}
			write("first")
			readertest.Sync(t, dir)
			refused(readertest.CutOff(t, image), "synced")
			for i := range 300 {
				write(fmt.Sprintf("file-%03d", i))
			}
			readertest.Sync(t, dir)
			write("last")
			cut := readertest.CutOff(t, image)
			refused(cut, "not synced")
			peer.Run(t, "xfs_repair", "-L", cut) // which throws the log away, and makes it anew
			openImage(t, cut)

			peer.Run(t, "xfs_freeze", "-f", dir)
			frozen := readertest.CutOff(t, image)
			peer.Run(t, "xfs_freeze", "-u", dir)
			f, err := tryImage(t, frozen)
			if err != nil {
				t.Fatalf("frozen: %v", err)
			}
			if err := f.IdleRanges(func(int64, int64) error { return nil }); !errors.Is(err, ErrDirty) {
				t.Errorf("what is idle while it is frozen: %v", err)
			}
			peer.Must(t, unix.Unmount(dir, 0))
			again := readertest.CutOff(t, frozen)
			compareWithKernel(t, f, mount(t, again))
		})
	}
}

// Whenever a machine is cut off, what is left is refused or right.
func TestWheneverItIsCutOff(t *testing.T) {
	image := makeImage(t, "-l size=5M -m reflink=0,rmapbt=0,finobt=0 -i sparse=0", "64M")
	random := rand.New(rand.NewSource(11))
	refused, right := 0, 0
	dir := mount(t, image)
	for round := range 25 {
		for range random.Intn(30) {
			name := filepath.Join(dir, fmt.Sprintf("file-%d", random.Intn(50)))
			if err := os.Remove(name); err == nil || random.Intn(2) == 0 {
				continue
			}
			peer.Must(t, os.WriteFile(name, bytesOf(random.Intn(50000)), 0o644))
		}
		frozen := false
		switch random.Intn(4) {
		case 0:
			readertest.Sync(t, dir)
		case 1:
			peer.Run(t, "xfs_freeze", "-f", dir)
			frozen = true
		case 2:
			peer.Must(t, unix.Unmount(dir, 0))
			dir = mount(t, image)
		}
		cut := readertest.CutOff(t, image)
		if frozen {
			peer.Run(t, "xfs_freeze", "-u", dir)
		}
		f, err := tryImage(t, cut)
		switch {
		case errors.Is(err, ErrDirty):
			refused++
			continue
		case err != nil:
			t.Fatalf("round %d: %v", round, err)
		}
		right++
		replayed := mount(t, readertest.CutOff(t, cut))
		compareWithKernel(t, f, replayed)
		peer.Must(t, unix.Unmount(replayed, 0))
	}
	if refused == 0 || right == 0 {
		t.Errorf("%d refused and %d right: this tests too little", refused, right)
	}
}

// The log is a ring: wherever its head is when it is unmounted, it is found.
func TestALogThatHasComeAround(t *testing.T) {
	for _, options := range []string{"-l size=5M -i sparse=0 -m finobt=0,reflink=0,rmapbt=0", "-l size=8M,su=256k -m reflink=0"} {
		t.Run(strings.ReplaceAll(options, " ", "_"), func(t *testing.T) {
			image := makeImage(t, options, "100M")
			for round := range 15 {
				dir := mount(t, image)
				for i := range 400 + 137*round {
					name := filepath.Join(dir, strings.Repeat("n", 200)+fmt.Sprint(i))
					peer.Must(t, os.WriteFile(name, nil, 0o644))
					peer.Must(t, os.Remove(name))
				}
				readertest.Sync(t, dir)
				cut := readertest.CutOff(t, image)
				peer.Must(t, unix.Unmount(dir, 0))
				if _, err := tryImage(t, cut); !errors.Is(err, ErrDirty) {
					t.Fatalf("round %d, cut off: %v", round, err)
				}
				if _, err := tryImage(t, image); err != nil {
					out, _ := exec.Command("xfs_logprint", "-t", image).CombinedOutput()
					t.Fatalf("round %d: %v\n%s", round, err, out)
				}
			}
			out := peer.Run(t, "xfs_logprint", "-t", image)
			if strings.Contains(out, "cycle: 1 ") {
				t.Errorf("it has not come around: this tests nothing:\n%s", out)
			}
		})
	}
}
