package delivery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"herdbook/internal/comparison"
	"herdbook/internal/digest"
	"herdbook/internal/filesystem"
	"herdbook/internal/inspection"
	"herdbook/internal/pkgdb"
	"herdbook/internal/repo/manifest"
	"herdbook/internal/store"
)

// Manifest tells of a layer that is published by a name: its system, packages and
// pedigree, with what each layer changed. Layers on which no system can be read, as the
// first ones of an installation are, say nothing of that. The last one must have one.
func (d *Deliverer) Manifest(ctx context.Context, name string, top digest.Digest) (manifest.Manifest, error) {
	m, err := d.describe(ctx, name, top)
	if err != nil {
		return m, fmt.Errorf("describe layer %s: %w", top.Short(), err)
	}
	return m, nil
}

func (d *Deliverer) describe(ctx context.Context, name string, top digest.Digest) (manifest.Manifest, error) {
	chain, err := d.Store.Chain(top)
	if err != nil {
		return manifest.Manifest{}, err
	}
	m := manifest.Manifest{Image: name, Layer: top, Created: chain[len(chain)-1].Created}
	var before content
	for i, l := range chain {
		if err := ctx.Err(); err != nil {
			return m, context.Cause(ctx)
		}
		told := told(l)
		after, err := d.look(l.Digest, before, i == len(chain)-1, &m)
		if err != nil {
			return m, err
		}
		if after.known {
			told.Packages = changes(before.databases, after.databases)
			if told.Used = after.used; before.known {
				told.Grown = after.used - before.used
			}
			before = after
		}
		m.Layers = append(m.Layers, told)
	}
	if m.Tests, err = d.passed(top); err != nil {
		return m, err
	}
	for _, database := range before.databases {
		for _, p := range database.Packages {
			m.Packages = append(m.Packages, manifest.Package{Manager: database.Manager, Name: p.Name, Version: p.Version, Architecture: p.Architecture, Size: p.Size})
		}
	}
	return m, nil
}

// passed are the tests that a layer passed.
func (d *Deliverer) passed(layer digest.Digest) (list manifest.List[manifest.Test], err error) {
	tests, err := d.Store.Tests(layer)
	for _, t := range tests {
		if t.Passed {
			list = append(list, manifest.Test{Name: t.Test, Time: t.Time, Elapsed: t.Elapsed.Seconds(), How: t.How, Cases: int64(len(t.Cases))})
		}
	}
	return list, err
}

// told is what the store knows of a layer.
func told(l store.Layer) manifest.Layer {
	return manifest.Layer{Digest: l.Digest, Image: l.Image, Step: l.Step, Created: l.Created, Elapsed: l.Elapsed.Seconds(), How: l.How, Size: l.Size}
}

// content is what is on a layer's disk.
type content struct {
	known     bool
	databases []pkgdb.Database
	files     []filesystem.Stat // of the databases
	used      int64             // bytes of file systems
}

// look looks into a layer that stands on one with the content before. Where no file of
// a package database has changed since, none is read. Of the last layer it tells the
// manifest more.
func (d *Deliverer) look(layer digest.Digest, before content, last bool, m *manifest.Manifest) (c content, err error) {
	image, system, err := d.open(layer)
	if err != nil && !last {
		return content{}, nil // there is no system yet, or none that can be read
	}
	if err != nil {
		return content{}, err
	}
	defer func() { err = errors.Join(err, image.Close()) }()
	c = content{known: true, used: used(system)}
	if c.files, err = databaseFiles(system.Tree()); err != nil {
		return c, err
	}
	if before.known && len(c.files) > 0 && slices.Equal(c.files, before.files) {
		c.databases = before.databases
	} else if c.databases, err = pkgdb.Read(system.Tree()); err != nil {
		if last {
			return c, err
		}
		return content{}, nil
	}
	if last {
		m.Size, m.System = image.Size(), systemOf(system)
	}
	return c, nil
}

func systemOf(s *inspection.System) manifest.System {
	about := manifest.System{
		Name: s.Release.PrettyName, ID: s.Release.ID, VersionID: s.Release.VersionID,
		Architecture: s.Architecture, OSInfo: s.Release.OSInfo(),
	}
	for _, k := range s.Kernels {
		about.Kernels = append(about.Kernels, manifest.Kernel(k.Version))
	}
	return about
}

// used is what the system's file systems have in use.
func used(s *inspection.System) (sum int64) {
	seen := map[string]bool{}
	for _, m := range s.FileSystems() {
		if m.FS.UUID == "" || !seen[m.FS.UUID] { // subvolumes are of one
			sum += m.FS.Used
		}
		seen[m.FS.UUID] = true
	}
	return sum
}

// databaseFiles are the files that package databases consist of, without the times at
// which they were read; none if one consists of a directory.
func databaseFiles(tree *filesystem.FS) ([]filesystem.Stat, error) {
	var list []filesystem.Stat
	for _, name := range pkgdb.Paths() {
		info, err := fs.Stat(tree, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		stat, ok := info.Sys().(*filesystem.Stat)
		if !ok || info.IsDir() {
			return nil, nil
		}
		kept := *stat
		kept.Atime = kept.Crtime
		list = append(list, kept)
	}
	return list, nil
}

// changes are those from some databases to others.
func changes(before, after []pkgdb.Database) *manifest.Changes {
	var c manifest.Changes
	from, to := sizes(before), sizes(after)
	for _, p := range comparison.Packages(before, after) {
		old, fresh := from[version{p.Manager, p.Name, p.Architecture, p.From}], to[version{p.Manager, p.Name, p.Architecture, p.To}]
		switch p.Change {
		case comparison.Added:
			c.Added = append(c.Added, manifest.Package{Manager: p.Manager, Name: p.Name, Version: p.To, Architecture: p.Architecture, Size: fresh})
		case comparison.Removed:
			c.Removed = append(c.Removed, manifest.Package{Manager: p.Manager, Name: p.Name, Version: p.From, Architecture: p.Architecture, Size: old})
		case comparison.Changed:
			c.Changed = append(c.Changed, manifest.Change{Manager: p.Manager, Name: p.Name, Architecture: p.Architecture, From: p.From, To: p.To, Grown: fresh - old})
		}
	}
	return &c
}

// version is one of a package.
type version struct{ manager, name, architecture, version string }

// sizes are those of packages, in bytes.
func sizes(databases []pkgdb.Database) map[version]int64 {
	of := map[version]int64{}
	for _, d := range databases {
		for _, p := range d.Packages {
			of[version{d.Manager, p.Name, p.Architecture, p.Version}] = p.Size
		}
	}
	return of
}
