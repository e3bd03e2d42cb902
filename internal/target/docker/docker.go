// Package docker exports an image as a container image: straight out of its file systems,
// without a machine, as an OCI image layout and as an archive that "docker load" and
// "podman load" take. It has a layer for each step that changed something, so that images
// with a base in common share that, and a list of its packages. It pushes what it made to
// registries.
//
// Equal layers and options give equal bytes.
package docker

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"herdbook/internal/artefact"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/sbom"
	"herdbook/internal/target"
)

// Exporter writes a container image: IMAGE.oci, a layout, and IMAGE.docker.tar, with
// IMAGE.cdx.json, its packages. It is an artefact.Sender.
type Exporter struct {
	target.Docker
	LookupEnv func(string) (string, bool) // where Docker and Podman keep the accounts of registries; nil: nowhere
	pause     time.Duration               // between two tries to push, at first; 0 is a second
}

// Fits implements artefact.Exporter: every root can be a container's.
func (*Exporter) Fits(*inspection.System) error { return nil }

// Write implements artefact.Exporter.
func (e *Exporter) Write(ctx context.Context, image *artefact.Image, dir string, sink event.Sink) (artefact.Made, error) {
	made := artefact.Made{Names: e.Tags}
	sink.Emit(event.Event{Kind: event.Phase, Text: "read the file systems"})
	steps, err := e.steps(ctx, image, maxLayers)
	if err != nil {
		return made, err
	}
	container, layers, err := e.assemble(image, steps)
	if err != nil {
		return made, err
	}
	hash, err := container.Digest()
	if err != nil {
		return made, err
	}
	config, err := container.ConfigFile()
	if err != nil {
		return made, err
	}
	unpacked := int64(0)
	for _, l := range layers {
		unpacked += l.Unpacked
	}
	made.Facts = map[string]any{"command": config.Config.Cmd, "digest": hash.String(), "layers": len(layers), "unpacked_size": unpacked}
	c := contents{name: image.Name, container: container, layers: layers}
	if e.SBOM {
		if c.packages, err = sbom.CycloneDX(sbom.Subject{Name: image.Name, Version: hash.String(), Created: image.Created}, image.System); err != nil {
			return made, err
		}
		if err := os.WriteFile(filepath.Join(dir, packagesFile(image.Name)), c.packages, 0o644); err != nil {
			return made, err
		}
	}
	return e.writeFormats(ctx, dir, made, c, sink)
}

// packagesFile is the file that lists the packages of an image.
func packagesFile(image string) string { return image + ".cdx.json" }

// contents are what a container image is, in any form.
type contents struct {
	name      string
	container v1.Image
	layers    []*layer
	packages  []byte // the list of them; nil for none
}

// writeFormats writes the forms that are wanted, and completes what is told of them.
func (e *Exporter) writeFormats(ctx context.Context, dir string, made artefact.Made, c contents, sink event.Sink) (artefact.Made, error) {
	name := c.name
	if e.Has("oci") {
		sink.Emit(event.Event{Kind: event.Phase, Text: "write the layout"})
		if err := e.writeLayout(ctx, filepath.Join(dir, name+".oci"), c); err != nil {
			return made, err
		}
		made.Main = name + ".oci/index.json"
		for _, tag := range e.Tags {
			made.Use = append(made.Use, fmt.Sprintf("skopeo copy oci:%s.oci:%s docker://REGISTRY/%s", name, tag, tag))
		}
	}
	if e.Has("docker-archive") {
		sink.Emit(event.Event{Kind: event.Phase, Text: "write the archive"})
		made.Main = name + ".docker.tar"
		made.Use = []string{"podman load -i " + made.Main}
		for _, tag := range e.Tags {
			made.Use = append(made.Use, "podman run --rm -it "+tag)
		}
		return made, e.writeArchive(ctx, filepath.Join(dir, made.Main), c.container, c.layers)
	}
	return made, nil
}

// shell is the command of an image that names none.
func shell(s *inspection.System) []string {
	if _, err := fs.Stat(s.Tree(), "bin/bash"); err == nil {
		return []string{"/bin/bash"}
	}
	return []string{"/bin/sh"}
}

// assemble puts a configuration on the layers that the steps gave.
func (e *Exporter) assemble(image *artefact.Image, steps []step) (v1.Image, []*layer, error) {
	container := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	container = mutate.ConfigMediaType(container, types.OCIConfigJSON)
	var layers []*layer
	var addenda []mutate.Addendum
	for _, s := range steps {
		history := v1.History{Created: s.at, CreatedBy: "herdbook " + s.name, EmptyLayer: s.layer == nil}
		if s.layer == nil {
			addenda = append(addenda, mutate.Addendum{History: history})
			continue
		}
		layers = append(layers, s.layer)
		addenda = append(addenda, mutate.Addendum{Layer: blob{s.layer}, History: history, MediaType: types.OCILayer})
	}
	container, err := mutate.Append(container, addenda...)
	if err != nil {
		return nil, nil, err
	}
	config, err := container.ConfigFile()
	if err != nil {
		return nil, nil, err
	}
	config = config.DeepCopy()
	config.Created, config.OS = v1.Time{Time: image.Created}, "linux"
	config.Architecture, config.Variant = architecture(image.System.Architecture)
	config.Config = e.config(image)
	container, err = mutate.ConfigFile(container, config)
	return container, layers, err
}

// architecture is what container images call one of Debian's.
func architecture(debian string) (name, variant string) {
	switch debian {
	case "i386":
		return "386", ""
	case "armel":
		return "arm", "v5"
	case "armhf":
		return "arm", "v7"
	case "arm64":
		return "arm64", "v8"
	case "ppc64el":
		return "ppc64le", ""
	case "mips64el":
		return "mips64le", ""
	}
	return debian, ""
}

// config is what the container image says of how it is started.
func (e *Exporter) config(image *artefact.Image) v1.Config {
	variables := map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	maps.Copy(variables, e.Environment)
	labels := maps.Clone(image.Labels)
	maps.Copy(labels, e.Labels)
	c := v1.Config{Cmd: e.Command, Entrypoint: e.Entrypoint, Labels: labels, User: e.User, WorkingDir: e.Workdir, StopSignal: e.StopSignal}
	if len(e.Command)+len(e.Entrypoint) == 0 {
		c.Cmd = shell(image.System)
	}
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		c.Env = append(c.Env, name+"="+variables[name])
	}
	c.ExposedPorts, c.Volumes = set(e.ExposedPorts, "/tcp"), set(e.Volumes, "")
	return c
}

// set has the values as Docker's configuration has them: as keys, those without a slash
// with an end.
func set(values []string, end string) map[string]struct{} {
	if len(values) == 0 {
		return nil
	}
	all := map[string]struct{}{}
	for _, v := range values {
		if filepath.Base(v) == v {
			v += end
		}
		all[v] = struct{}{}
	}
	return all
}
