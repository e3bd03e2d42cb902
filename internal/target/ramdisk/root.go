package ramdisk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"herdbook/internal/archive"
	"herdbook/internal/artefact"
	"herdbook/internal/filesystem"
	"herdbook/internal/program"
)

// emptied are directories whose content is the moment's, or is outside of the root here:
// they stay, empty.
var emptied = []string{"boot", "dev", "proc", "run", "sys", "tmp"}

// leftOut are files that only a system on a disk has.
var leftOut = []string{
	"lost+found", "vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old", "swapfile", "swap.img", "etc/crypttab",
	"etc/initrd-release", "usr/lib/initrd-release", // by which an init takes its root for an initrd's
}

// maxFstab bounds the fstab that is read, in bytes.
const maxFstab = 1 << 20

// walkRoot calls add for what belongs into a root in memory, with another content for some
// files, which is nil for all others.
func walkRoot(ctx context.Context, root *filesystem.FS, version string, add func(name string, e *filesystem.Entry, content []byte) error) error {
	return root.Walk(func(name string, e *filesystem.Entry) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		dir := path.Dir(name)
		if slices.Contains(leftOut, name) || path.Base(dir) == "modules" && path.Base(path.Dir(dir)) == "lib" && e.IsDir() && path.Base(name) != version {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		content, err := replacement(name, e)
		if err == nil {
			err = add(name, e, content)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if slices.Contains(emptied, name) && e.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
}

// replacement is what a file has in a root in memory; nil if it stays as it is.
func replacement(name string, e *filesystem.Entry) ([]byte, error) {
	if !e.Type().IsRegular() {
		return nil, nil
	}
	switch name {
	case "etc/machine-id", "var/lib/dbus/machine-id":
		return []byte{}, nil
	case "etc/fstab":
		f, err := e.Open()
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(io.LimitReader(f, maxFstab+1))
		if err == nil && len(text) > maxFstab {
			err = fmt.Errorf("it has more than %d bytes", maxFstab)
		}
		return withoutDisks(text), err
	}
	return nil, nil
}

// withoutDisks leaves out of an fstab what is on a disk, and the root, wherever it is.
func withoutDisks(text []byte) []byte {
	kept := []byte{}
	for line := range bytes.Lines(text) {
		f := strings.Fields(string(line))
		disk := len(f) > 2 && !strings.HasPrefix(f[0], "#") && (f[1] == "/" || f[2] == "swap" || strings.HasPrefix(f[0], "/dev/") ||
			strings.HasPrefix(f[0], "UUID=") || strings.HasPrefix(f[0], "LABEL=") || strings.HasPrefix(f[0], "PARTUUID=") || strings.HasPrefix(f[0], "PARTLABEL="))
		if !disk {
			kept = append(kept, line...)
		}
	}
	return kept
}

// squash is the part that is the root as a squashfs.
func squash(ctx context.Context, image *artefact.Image, version, compression string) (string, error) {
	options := []string{"-comp", compression, "-b", "256K"}
	name := fmt.Sprintf("ramdisk root 1, squashfs %s, kernel %s", strings.Join(options, " "), version)
	return image.Part(ctx, name, func(path string) error {
		top, err := image.System.Tree().Stat(".")
		if err != nil {
			return err
		}
		stat, ok := top.Sys().(*filesystem.Stat)
		if !ok {
			return errors.New("the root directory has no owner")
		}
		args := append([]string{
			"-", path, "-tar", "-noappend", "-quiet", "-no-progress", "-mem", "256M",
			"-root-mode", strconv.FormatUint(uint64(stat.Mode&0o7777), 8), "-root-uid", strconv.Itoa(int(stat.UID)), "-root-gid", strconv.Itoa(int(stat.GID)),
		}, options...)
		// The options for times do not reach the root directory of what is made of a tar.
		clock := "SOURCE_DATE_EPOCH=" + strconv.FormatInt(image.Created.Unix(), 10)
		return program.Command{Name: "mksquashfs", Args: args, Environment: []string{clock}}.Feed(ctx, nil, func(w io.Writer) error {
			out := archive.NewWriter(w, nil)
			err := walkRoot(ctx, image.System.Tree(), version, func(name string, e *filesystem.Entry, content []byte) error {
				switch {
				case name == ".":
					return nil
				case content != nil:
					return out.AddAs(name, e, content)
				}
				return out.Add(name, e)
			})
			return errors.Join(err, out.Close())
		})
	})
}
