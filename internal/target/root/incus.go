package root

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v4"

	"herdbook/internal/archive"
	"herdbook/internal/artefact"
	"herdbook/internal/container"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/target"
)

// Incus writes an image for Incus and LXD: IMAGE.incus.tar.gz, metadata and root in one,
// or IMAGE.incus-metadata.tar.gz and IMAGE.incus.qcow2 for a virtual machine.
type Incus struct{ target.Incus }

// architectures are what Incus calls them.
var architectures = map[string]string{
	"amd64": "x86_64", "arm64": "aarch64", "i386": "i686", "armhf": "armv7l", "ppc64el": "ppc64le", "s390x": "s390x", "riscv64": "riscv64",
}

// Fits implements artefact.Exporter.
func (i *Incus) Fits(s *inspection.System) error {
	if architectures[s.Architecture] == "" {
		return fmt.Errorf("Incus knows no architecture %s", s.Architecture)
	}
	if i.Type == "container" {
		for _, init := range []string{"sbin/init", "usr/sbin/init"} {
			if _, err := s.Tree().Lstat(init); err == nil {
				return nil
			}
		}
		return errors.New("the image has no /sbin/init, with which a container begins; install one, such as systemd-sysv")
	}
	if _, err := s.Newest(); err != nil {
		return fmt.Errorf("a virtual machine needs a kernel: %w", err)
	}
	if !slices.ContainsFunc(s.Mounts, func(m inspection.Mount) bool { return m.Type == "vfat" }) {
		return errors.New("Incus starts virtual machines by UEFI, and the image has no EFI system partition in its fstab")
	}
	return nil
}

// Write implements artefact.Exporter.
func (i *Incus) Write(ctx context.Context, image *artefact.Image, dir string, sink event.Sink) (artefact.Made, error) {
	sink.Emit(event.Event{Kind: event.Phase, Text: "pack the image"})
	metadata, err := i.metadata(image)
	if err != nil {
		return artefact.Made{}, err
	}
	if i.Type == "container" {
		made := artefact.Made{Main: image.Name + ".incus.tar.gz"}
		made.Use = []string{fmt.Sprintf("incus image import %s --alias %s", made.Main, image.Name)}
		return made, pack(filepath.Join(dir, made.Main), "gzip", container.Attribute, func(out *archive.Writer) error {
			if err := errors.Join(out.File("metadata.yaml", metadata, image.Created), templates(out, image)); err != nil {
				return err
			}
			return container.Write(ctx, out, "rootfs", image.System.Tree())
		})
	}
	made := artefact.Made{Main: image.Name + ".incus.qcow2", Facts: map[string]any{"virtual_size": image.Disk.Size()}}
	about := image.Name + ".incus-metadata.tar.gz"
	made.Use = []string{
		fmt.Sprintf("incus image import %s %s --alias %s", about, made.Main, image.Name),
		fmt.Sprintf("incus launch %s --vm --config security.secureboot=false", image.Name), // a kernel that nobody has signed
	}
	err = pack(filepath.Join(dir, about), "gzip", nil, func(out *archive.Writer) error { return out.File("metadata.yaml", metadata, image.Created) })
	if err != nil {
		return made, err
	}
	part, err := image.QCOW2(ctx, sink)
	if err != nil {
		return made, err
	}
	return made, artefact.Place(part, filepath.Join(dir, made.Main))
}

// metadata is what the image says of itself.
// https://linuxcontainers.org/incus/docs/main/reference/image_format
func (i *Incus) metadata(image *artefact.Image) ([]byte, error) {
	release := image.System.Release
	properties := map[string]string{
		"name": image.Name, "architecture": image.System.Architecture, "description": release.PrettyName + " (" + image.Name + ")",
		"os": release.ID, "release": release.VersionID, "serial": image.Created.UTC().Format("20060102_1504"),
	}
	about := map[string]any{
		"architecture": architectures[image.System.Architecture], "creation_date": image.Created.Unix(), "properties": properties,
	}
	if i.Type == "container" {
		rules := map[string]any{}
		for name := range hostTemplates {
			rules["/etc/"+name] = map[string]any{"when": []string{"create", "copy"}, "template": name + ".tpl"}
		}
		about["templates"] = rules
	}
	return yaml.Marshal(about)
}

// hostTemplates are files below /etc that every container has of its own.
var hostTemplates = map[string]string{
	"hostname": "{{ instance.name }}\n",
	"hosts":    "127.0.0.1\tlocalhost\n127.0.1.1\t{{ instance.name }}\n\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
}

// templates writes them.
func templates(out *archive.Writer, image *artefact.Image) error {
	var errs []error
	for _, name := range []string{"hostname", "hosts"} {
		errs = append(errs, out.File("templates/"+name+".tpl", []byte(hostTemplates[name]), image.Created))
	}
	return errors.Join(errs...)
}
