// Package ova exports an image as an appliance: a tar of an OVF 1.0, its manifest and a
// streamOptimized VMDK. Nothing is started.
//
// Equal layers and options give equal bytes.
package ova

import (
	"context"
	"crypto/sha1" // what OVF 1.0 has manifests made of
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"herdbook/internal/artefact"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/ovf"
	"herdbook/internal/pack"
	"herdbook/internal/target"
)

// Exporter writes an appliance: IMAGE.ova.
type Exporter struct{ target.OVA }

// Fits implements artefact.Exporter.
func (*Exporter) Fits(s *inspection.System) error { return artefact.FitsOVF(s) }

// Write implements artefact.Exporter.
func (e *Exporter) Write(ctx context.Context, image *artefact.Image, dir string, sink event.Sink) (artefact.Made, error) {
	sink.Emit(event.Event{Kind: event.Phase, Text: "describe the machine"})
	name := image.Name + ".ova"
	made := artefact.Made{
		Main: name, Facts: map[string]any{"cpus": e.CPUs, "memory": e.Memory, "virtual_size": image.Disk.Size()},
		Use: []string{"VBoxManage import " + name},
	}
	if err := context.Cause(ctx); err != nil {
		return made, err
	}
	disk, err := image.VMDK(ctx, sink)
	if err != nil {
		return made, err
	}
	diskName, descriptorName := image.Name+"-disk1.vmdk", image.Name+".ovf"
	descriptor, err := image.OVF(disk, ovf.Machine{CPUs: e.CPUs, Memory: e.Memory, Disk: ovf.Disk{File: diskName}})
	if err != nil {
		return made, err
	}
	sink.Emit(event.Event{Kind: event.Phase, Text: "write the appliance"})
	sum, err := sumOf(ctx, disk)
	if err != nil {
		return made, err
	}
	manifest := fmt.Sprintf("SHA1(%s)= %x\nSHA1(%s)= %x\n", descriptorName, sha1.Sum([]byte(descriptor)), diskName, sum)
	_, err = pack.Tar(ctx, []pack.Member{
		{Name: descriptorName, Text: descriptor}, {Name: image.Name + ".mf", Text: manifest}, {Name: diskName, Path: disk},
	}, filepath.Join(dir, name), sink)
	return made, err
}

// sumOf is the checksum of a file.
func sumOf(ctx context.Context, path string) (_ []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha1.New()
	_, err = io.Copy(sum, artefact.Within(ctx, f))
	return sum.Sum(nil), err
}
