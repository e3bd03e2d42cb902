// Package iso exports an image as a medium that machines boot from into their memory: a
// disc (ISO 9660) that is a disk, too, and starts under BIOS and under UEFI. What is on it
// is made by package ramdisk; the boot loaders are those of the image's distribution.
//
// Equal layers and options give equal bytes.
package iso

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"herdbook/internal/artefact"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/machine"
	"herdbook/internal/program"
	"herdbook/internal/target"
	"herdbook/internal/target/ramdisk"
)

// Exporter writes IMAGE.iso.
type Exporter struct {
	target.ISO
	// Accelerator is asked for a machine to measure the memory in. Nil: it is reckoned.
	Accelerator func(context.Context) (machine.Accelerator, error)
}

// ramdisk is what writes what is on the medium.
func (e *Exporter) ramdisk() *ramdisk.Exporter {
	return &ramdisk.Exporter{RAMDisk: *e.RAMDisk(), Accelerator: e.Accelerator, Medium: true}
}

// Fits implements artefact.Exporter.
func (e *Exporter) Fits(s *inspection.System) error {
	if s.Release.ID != "debian" && !slices.Contains(s.Release.Like, "debian") {
		return fmt.Errorf("it is %s, and media are made with the boot loaders of Debian or Ubuntu: use target \"ramdisk\", which needs none",
			s.Release.PrettyName)
	}
	return e.ramdisk().Fits(s)
}

// Write implements artefact.Exporter.
func (e *Exporter) Write(ctx context.Context, image *artefact.Image, dir string, sink event.Sink) (made artefact.Made, err error) {
	content, err := os.MkdirTemp(dir, ".content-")
	if err != nil {
		return made, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(content)) }()
	r := e.ramdisk()
	inside, err := r.Write(ctx, image, content, sink)
	if err != nil {
		return made, err
	}
	sink.Emit(event.Event{Kind: event.Phase, Text: "write the medium"})
	name := image.Name + ".iso"
	made = artefact.Made{
		Main: name, Facts: inside.Facts,
		Use: []string{"qemu-system-x86_64 -m 2G -cdrom " + name, "sudo dd if=" + name + " of=/dev/STICK bs=4M conv=fsync"},
	}
	m := &medium{image: image, dir: content, arguments: r.CommandLine()}
	return made, m.write(ctx, filepath.Join(dir, name))
}

// medium is the making of one, of the files in a directory.
type medium struct {
	image     *artefact.Image
	dir       string
	arguments string // of the kernel
}

func (m *medium) path(name string) string { return filepath.Join(m.dir, name) }

// volume is the name of the medium: of capitals, digits and underscores, 32 at most
// (ISO 9660, 8.4.6).
func volume(image string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z' || r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, image)
	return name[:min(len(name), 32)]
}

// write writes the medium. Its layout is that of Debian's own live media: isolinux for
// BIOS, from a disc and by a boot record from a disk, and a FAT image for UEFI.
func (m *medium) write(ctx context.Context, path string) error {
	files, err := m.bootFiles(ctx)
	if err != nil {
		return err
	}
	args := []string{
		"-as", "mkisofs", "-quiet", "-o", path, "-V", volume(m.image.Name), "-iso-level", "3", "-r", "-graft-points",
		"--set_all_file_dates", m.image.Created.UTC().Format("20060102150405") + "00", // and hundredths
		"-isohybrid-mbr", m.path("isohdpfx.bin"),
		"-c", "isolinux/boot.cat", "-b", "isolinux/isolinux.bin", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table",
		"-eltorito-alt-boot", "-e", "boot/efi.img", "-no-emul-boot", "-isohybrid-gpt-basdat",
	}
	for _, f := range files {
		args = append(args, f.name+"="+f.path)
	}
	return program.Command{Name: "xorriso", Args: args, Environment: m.clock()}.Run(ctx)
}

// clock is the environment of programs that would else ask what time it is.
func (m *medium) clock() []string {
	return []string{"TZ=UTC0", "SOURCE_DATE_EPOCH=" + strconv.FormatInt(m.image.Created.Unix(), 10)}
}
