// Package vagrant exports an image as a box for Vagrant: for VirtualBox as a VMDK with an
// OVF, both written here, and for libvirt as a qcow2. Nothing is started.
//
// Equal layers and options give equal bytes.
package vagrant

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"herdbook/internal/artefact"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/ovf"
	"herdbook/internal/pack"
	"herdbook/internal/target"
)

// Exporter writes a box: IMAGE.PROVIDER.box.
type Exporter struct{ target.Vagrant }

// Fits implements artefact.Exporter: the kernel must drive the machine that the provider
// gives it.
func (e *Exporter) Fits(s *inspection.System) error {
	if e.Provider == "libvirt" {
		return s.Drives("libvirt's machine", "virtio_pci", "virtio_blk", "virtio_net")
	}
	return artefact.FitsOVF(s)
}

// Write implements artefact.Exporter.
func (e *Exporter) Write(ctx context.Context, image *artefact.Image, dir string, sink event.Sink) (artefact.Made, error) {
	sink.Emit(event.Event{Kind: event.Phase, Text: "describe the machine"})
	if err := context.Cause(ctx); err != nil {
		return artefact.Made{}, err
	}
	box := image.Name + "." + e.Provider + ".box"
	made := artefact.Made{
		Main: box, Facts: map[string]any{"provider": e.Provider, "version": e.version(image), "virtual_size": image.Disk.Size()},
		Use: []string{
			fmt.Sprintf("vagrant box add --name %s %s", image.Name, box),
			fmt.Sprintf("vagrant init %s && vagrant up --provider=%s", image.Name, e.Provider),
		},
	}
	members, err := e.members(ctx, image, sink)
	if err != nil {
		return made, err
	}
	sink.Emit(event.Event{Kind: event.Phase, Text: "write the box"})
	_, err = pack.Tar(ctx, members, filepath.Join(dir, box), sink)
	return made, err
}

// version is that of the box: the time of the layer, unless the definition has one.
func (e *Exporter) version(image *artefact.Image) string {
	if e.BoxVersion != "" {
		return e.BoxVersion
	}
	at := image.Created.UTC()
	return fmt.Sprintf("%s.%d.0", at.Format("20060102"), at.Hour()*10000+at.Minute()*100+at.Second())
}

// members are the files of the box, those first that tell of the others.
func (e *Exporter) members(ctx context.Context, image *artefact.Image, sink event.Sink) ([]pack.Member, error) {
	info, err := json.MarshalIndent(map[string]string{
		"image": image.Name, "version": e.version(image), "layer": string(image.Layer), "system": image.System.Release.PrettyName,
	}, "", "  ")
	if err != nil {
		return nil, err
	}
	members := []pack.Member{{Name: "Vagrantfile", Text: e.vagrantfile(image)}, {Name: "info.json", Text: string(info) + "\n"}}
	if e.Provider == "libvirt" {
		disk, err := image.QCOW2(ctx, sink)
		if err != nil {
			return nil, err
		}
		metadata, err := pack.LibvirtMetadata(disk)
		return append(members, pack.Member{Name: "metadata.json", Text: metadata}, pack.Member{Name: "box.img", Path: disk}), err
	}
	disk, err := image.VMDK(ctx, sink)
	if err != nil {
		return nil, err
	}
	const diskName = "box-disk001.vmdk"
	descriptor, err := image.OVF(disk, ovf.Machine{CPUs: e.CPUs, Memory: e.Memory, Disk: ovf.Disk{File: diskName}})
	return append(members,
		pack.Member{Name: "metadata.json", Text: "{\"provider\":\"virtualbox\"}\n"},
		pack.Member{Name: "box.ovf", Text: descriptor}, pack.Member{Name: diskName, Path: disk},
	), err
}

// vagrantfile is what the box says of its machines; that of a user can say otherwise.
// Where nothing in the image shares folders, /vagrant is a copy.
func (e *Exporter) vagrantfile(image *artefact.Image) string {
	lines := []string{`Vagrant.configure("2") do |config|`}
	if e.Provider == "virtualbox" {
		lines = append(lines, fmt.Sprintf(`  config.vm.base_mac = "%s"`, ovf.MAC(image.ID())))
	}
	if e.Additions == "none" {
		lines = append(lines, `  # There are no guest additions, and not every host has NFS.`, `  config.vm.synced_folder ".", "/vagrant", type: "rsync"`)
	}
	lines = append(lines,
		fmt.Sprintf(`  config.vm.provider :%s do |machine|`, e.Provider),
		fmt.Sprintf(`    machine.cpus = %d`, e.CPUs),
		fmt.Sprintf(`    machine.memory = %d`, e.Memory))
	if e.Provider == "virtualbox" && e.Additions == "none" {
		lines = append(lines, `    machine.check_guest_additions = false`)
	}
	return strings.Join(append(lines, "  end", "end", ""), "\n")
}

var _ artefact.Exporter = (*Exporter)(nil)
