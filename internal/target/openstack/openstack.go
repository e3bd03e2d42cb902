// Package openstack exports an image for OpenStack: its disk as a qcow2 or raw, with what
// Glance and Nova are to know of it, and brings it into clouds. There a new image takes
// the name of the old one only once it is whole, verified and active; the old ones are
// hidden or renamed, and those that nobody uses are deleted in the end.
//
// Equal layers and options give equal bytes.
package openstack

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"herdbook/internal/artefact"
	"herdbook/internal/digest"
	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/kmod"
	"herdbook/internal/machine"
	"herdbook/internal/pack"
	"herdbook/internal/target"
)

// Exporter writes the disk, IMAGE.openstack.qcow2 or .raw, and uploads it. It holds to
// the contract of artefact.Sender.
type Exporter struct {
	target.OpenStack
	LookupEnv func(string) (string, bool) // the user's environment; nil: none
	// Accelerator is asked for a machine to find the least memory in. Nil: it is not measured.
	Accelerator func(context.Context) (machine.Accelerator, error)

	pause time.Duration // before the first repetition; default a second
}

// gib is what Glance counts disks in.
const gib = 1 << 30

// facts are what is found out of an image for a cloud.
type facts struct {
	VirtualSize int64             `json:"virtual_size"` // bytes
	Used        int64             `json:"used"`         // bytes of its file systems
	Format      string            `json:"format"`
	MinDisk     int               `json:"min_disk"` // GiB
	MinRAM      int               `json:"min_ram"`  // MiB; 0: not said
	Properties  map[string]string `json:"properties"`
}

// Fits implements artefact.Exporter.
func (e *Exporter) Fits(s *inspection.System) error {
	kernel, err := s.Newest()
	if err != nil {
		return fmt.Errorf("%w: install one in a step of the image, such as Debian's linux-image-cloud-amd64", err)
	}
	if architectures[s.Architecture] == "" {
		return fmt.Errorf("its architecture %q is none that Glance and Nova know", s.Architecture)
	}
	modules, err := kmod.Read(s.Tree(), filepath.Join("lib/modules", kernel.Version))
	if err != nil {
		return fmt.Errorf("read the modules of its kernel %s: %w", kernel.Version, err)
	}
	for _, name := range []string{"virtio_blk", "virtio_net", "isofs"} {
		if !modules.Has(name) {
			return fmt.Errorf("its kernel %s has no %s, without which a server of Nova has no disk, network or ConfigDrive: install the distribution's kernel for clouds", kernel.Version, name)
		}
	}
	if !startsCloudInit(s.Tree()) {
		return fmt.Errorf("it has neither systemd nor OpenRC, and nothing else starts cloud-init: install systemd-sysv in a step of the image")
	}
	return growable(s)
}

// Write implements artefact.Exporter.
func (e *Exporter) Write(ctx context.Context, image *artefact.Image, dir string, sink event.Sink) (made artefact.Made, err error) {
	sink.Emit(event.Event{Kind: event.Phase, Text: "write the disk"})
	if err := context.Cause(ctx); err != nil {
		return made, err
	}
	found, err := e.find(image)
	if err != nil {
		return made, err
	}
	made.Main = image.Name + "." + target.Name(&e.OpenStack) + "." + e.Format
	options := disk.FlattenOptions{Format: disk.Format(e.Format), Ordered: true}
	name := "disk 1, raw"
	if options.Format == disk.QCOW2 {
		// Who reads it is QEMU on the hosts of a cloud, and Glance's own reader: of any age.
		options.Compress, options.Zlib, name = true, true, "disk 1, qcow2, zlib"
	}
	if found.MinRAM, err = e.memory(ctx, image, dir, sink); err != nil {
		return made, err
	}
	part, err := image.Part(ctx, name, func(path string) error { return pack.Disk(ctx, image.Path(), path, options, sink) })
	if err != nil {
		return made, err
	}
	made.Use = []string{command(found, e.Name, made.Main)}
	if made.Facts, err = asMap(found); err != nil {
		return made, err
	}
	return made, artefact.Place(part, filepath.Join(dir, made.Main))
}

// find finds out what a cloud is to know.
func (e *Exporter) find(image *artefact.Image) (facts, error) {
	f := facts{VirtualSize: image.Disk.Size(), Format: e.Format}
	for _, m := range image.System.FileSystems() {
		f.Used += m.FS.Used
	}
	least := int((f.VirtualSize + gib - 1) / gib)
	if f.MinDisk = e.MinDisk; f.MinDisk == 0 {
		f.MinDisk = least
	}
	if f.MinDisk < least {
		return f, fmt.Errorf("min_disk is %d GiB, and the disk has %d bytes: %d are the least", f.MinDisk, f.VirtualSize, least)
	}
	f.Properties = properties(image.System, e.QEMUGuestAgent)
	f.Properties[layerProperty] = string(image.Layer)
	f.Properties[imageProperty] = e.Name
	maps.Copy(f.Properties, e.Properties)
	return f, nil
}

// command is how a person uploads the file.
func command(f facts, name, file string) string {
	words := []string{"openstack image create --container-format bare", fmt.Sprintf("--disk-format %s --min-disk %d", f.Format, f.MinDisk)}
	if f.MinRAM > 0 {
		words = append(words, fmt.Sprintf("--min-ram %d", f.MinRAM))
	}
	for _, key := range slices.Sorted(maps.Keys(f.Properties)) {
		words = append(words, "--property "+quote(key+"="+f.Properties[key]))
	}
	return strings.Join(append(words, "--file "+file, quote(name)), " ")
}

// quote makes a word of the shell's.
func quote(word string) string {
	if !strings.ContainsFunc(word, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-=:/,", r)
	}) && word != "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func asMap(f facts) (m map[string]any, err error) {
	text, err := json.Marshal(f)
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	return m, err
}

// factsOf reads the facts of a manifest.
func factsOf(m artefact.Manifest) (f facts, file digest.Digest, err error) {
	text, err := json.Marshal(m.Facts)
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	for _, one := range m.Files {
		if one.Name == m.Main {
			file = one.Digest
		}
	}
	return f, file, err
}
