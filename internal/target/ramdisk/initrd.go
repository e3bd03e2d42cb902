package ramdisk

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"

	"herdbook/internal/filesystem"
	"herdbook/internal/kmod"
	"herdbook/internal/program"
	"herdbook/internal/ramroot"
)

// rootModules are what a root as a squashfs needs.
var rootModules = []string{"loop", "squashfs", "overlay"}

// networkDrivers are drivers of networks, and of the buses that those are on, besides those
// of Ethernet cards.
var networkDrivers = []string{"virtio_net", "virtio_pci", "virtio_mmio", "vmxnet3", "hv_netvsc", "hv_vmbus", "xen_netfront"}

// Bounds of an initrd.
const (
	maxModules  = 256 << 20 // bytes of all modules and their firmware
	maxFirmware = 2000      // files that the modules ask for, be they there or not
)

// initrd is the content of one: modules and what package ramroot reads.
type initrd struct {
	records []cpio.Record
	size    int64 // bytes of all files
}

// add adds a file, with the directories that it is the first in.
func (i *initrd) add(name string, content []byte, mode uint64) {
	i.makeDir(path.Dir(name))
	i.size += int64(len(content))
	i.records = append(i.records, cpio.StaticFile(name, string(content), mode))
}

// makeDir adds a directory, unless it is there.
func (i *initrd) makeDir(name string) {
	if name == "." || slices.ContainsFunc(i.records, func(r cpio.Record) bool { return r.Name == name }) {
		return
	}
	i.makeDir(path.Dir(name))
	i.records = append(i.records, cpio.Directory(name, 0o755))
}

// begin makes an initrd with its first process and what that is to know.
func (w *work) begin() (*initrd, error) {
	i := &initrd{records: []cpio.Record{cpio.Directory("dev", 0o755), cpio.CharDev("dev/console", 0o600, 5, 1)}}
	text, err := json.Marshal(w.config)
	if err != nil {
		return nil, err
	}
	i.add("init", w.first, 0o755)
	i.add(ramroot.ConfigFile, text, 0o644)
	return i, nil
}

// writeInitrd writes the initrd that puts a root as a squashfs together.
func (w *work) writeInitrd(ctx context.Context, out io.Writer) error {
	i, err := w.begin()
	if err != nil {
		return err
	}
	if err := w.addModules(i); err != nil {
		return fmt.Errorf("take modules of kernel %s into the initrd: %w", w.kernel.Version, err)
	}
	if strings.HasPrefix(w.config.URL, "https:") {
		name, err := firstOf(w.image.System, certificates...)
		if err != nil {
			return err
		}
		trusted, err := filesystem.ReadFile(w.image.System.Tree(), name, 16<<20)
		if err != nil {
			return err
		}
		i.add(certificates[0], trusted, 0o644)
	}
	w.unpacked = i.size
	return compressed(ctx, w.kernel.initrdCompression(), out, func(out io.Writer) error { return writeRecords(out, i.records) })
}

// addModules adds the modules that the initrd loads, and the lists of them.
func (w *work) addModules(i *initrd) error {
	m := w.kernel.modules
	always, err := m.Order(rootModules, nil)
	if err != nil {
		return err
	}
	files := slices.Clone(always)
	if w.fetches() {
		packet, err := m.Order(nil, []string{"af_packet"}) // of DHCP
		if err != nil {
			return err
		}
		always, files = append(always, packet...), append(files, packet...)
		drivers, list, err := driversFor(m, append(m.Below("drivers/net/ethernet"), networkDrivers...))
		if err != nil {
			return err
		}
		files = append(files, drivers...)
		i.add(ramroot.DriversFile, []byte(list), 0o644)
	}
	i.add(ramroot.ModulesFile, []byte(strings.Join(names(always), "\n")+"\n"), 0o644)
	return w.addFiles(i, files)
}

// addFiles adds the files of modules, and what the image has of the firmware that those ask
// for.
func (w *work) addFiles(i *initrd, files []string) error {
	slices.Sort(files)
	var wanted []string
	for _, file := range slices.Compact(files) {
		content, err := w.kernel.modules.Content(file)
		if err != nil {
			return err
		}
		if i.add(ramroot.ModulesDir+"/"+kmod.Name(file)+".ko", content, 0o644); i.size > maxModules {
			return fmt.Errorf("they have more than %d bytes", maxModules)
		}
		names, err := kmod.FirmwareNames(content)
		if err != nil {
			return fmt.Errorf("find the firmware of module %s: %w", file, err)
		}
		if wanted = append(wanted, names...); len(wanted) > maxFirmware {
			return fmt.Errorf("they ask for more than %d files of firmware", maxFirmware)
		}
	}
	slices.Sort(wanted)
	for _, name := range slices.Compact(wanted) {
		content, err := w.kernel.modules.Firmware(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the image is for machines without such cards, or so it seems
		}
		if err != nil {
			return err
		}
		if i.add("lib/firmware/"+name, content, 0o644); i.size > maxModules {
			return fmt.Errorf("with their firmware they have more than %d bytes: take firmware that no machine needs out of the image", maxModules)
		}
		w.firmware = append(w.firmware, name)
	}
	return nil
}

// driversFor are the files of drivers and of what they need, and a list of which hardware
// needs which of them.
func driversFor(m *kmod.Modules, drivers []string) (files []string, list string, err error) {
	aliases, err := m.Aliases()
	if err != nil {
		return nil, "", err
	}
	var text strings.Builder
	for _, a := range aliases {
		if !slices.Contains(drivers, a.Module) {
			continue
		}
		order, err := m.Order(nil, append(slices.Clone(m.Before(a.Module)), a.Module))
		if err != nil {
			return nil, "", err
		}
		if len(order) > 0 { // or it is built in
			files = append(files, order...)
			fmt.Fprintf(&text, "%s %s\n", a.Pattern, strings.Join(names(order), " "))
		}
	}
	return files, text.String(), nil
}

func names(files []string) []string {
	var list []string
	for _, file := range files {
		list = append(list, kmod.Name(file))
	}
	return list
}

// appendRoot lays the root behind an initrd, as an archive that the kernel unpacks, too.
func appendRoot(out io.Writer, path string, size int64) (err error) {
	if size > math.MaxUint32 {
		return fmt.Errorf("the root has %d MiB, and an initrd can hold files of less than 4096: take files out of the image, or let it be fetched from a url", size>>20)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info := cpio.Info{Name: ramroot.RootFile, Mode: cpio.S_IFREG | 0o600, NLink: 1, FileSize: uint64(size)}
	return writeRecords(out, []cpio.Record{{ReaderAt: noClose{f}, Info: info}})
}

// noClose is a file that a writer of archives does not close.
type noClose struct{ io.ReaderAt }

// writeRecords writes a whole archive, and fills up to where another one may begin.
func writeRecords(out io.Writer, records []cpio.Record) error {
	buffered := &counter{Writer: bufio.NewWriterSize(out, 1<<20)}
	w := cpio.Newc.Writer(buffered)
	for _, r := range records {
		if err := w.WriteRecord(cpio.MakeReproducible(r)); err != nil {
			return err
		}
	}
	return buffered.end(w)
}

// counter counts what is written.
type counter struct {
	*bufio.Writer
	n int64
}

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n += int64(n)
	return n, err
}

// end ends an archive.
func (c *counter) end(w cpio.RecordWriter) error {
	if err := cpio.WriteTrailer(w); err != nil {
		return err
	}
	return errors.Join(fill(c, c.n), c.Flush())
}

// fill writes zeros behind n bytes, up to where an archive may begin.
func fill(out io.Writer, n int64) error {
	_, err := out.Write(make([]byte, -n&3))
	return err
}

// xzOptions are those of an initrd: the kernel knows no other checksum, and one more thread
// than one lets xz write blocks of one size, whatever the number of processors.
var xzOptions = []string{
	"--compress", "--stdout", "--format=xz", "--check=crc32", "--lzma2=preset=6,dict=8MiB", "--block-size=32MiB", "--threads=2",
}

// compressed writes what write writes, compressed as a kernel unpacks it.
func compressed(ctx context.Context, how string, out io.Writer, write func(io.Writer) error) error {
	counted := &counter{Writer: bufio.NewWriterSize(out, 1<<20)}
	var err error
	switch how {
	case "xz":
		err = program.Command{Name: "xz", Args: xzOptions}.Feed(ctx, counted, write)
	case "zstd":
		var z *zstd.Encoder
		if z, err = zstd.NewWriter(counted, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithWindowSize(8<<20)); err == nil {
			err = errors.Join(write(z), z.Close())
		}
	default:
		z := gzip.NewWriter(counted)
		err = errors.Join(write(z), z.Close())
	}
	return errors.Join(err, fill(counted, counted.n), counted.Flush())
}
