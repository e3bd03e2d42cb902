package delivery

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"herdbook/internal/bucket"
	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/pack"
	"herdbook/internal/repo"
	"herdbook/internal/repo/manifest"
	"herdbook/internal/repo/publish"
	"herdbook/internal/signed"
)

// Open opens a repository of a definition.
func Open(d definition.Repository, now time.Time) (publish.Repository, error) {
	address, location := d.URL, d.PublicURL
	if d.Path != "" {
		address = d.Path
	}
	if d.Path != "" && location == "" && slices.Contains(d.Formats, boxFormat) {
		location = d.Address() // Vagrant takes no relative paths; else the path is nobody's business
	}
	r := publish.Repository{Address: address, Now: now, ValidFor: d.ValidFor, Location: location}
	var err error
	r.Bucket, err = bucket.At(address, bucket.Options{
		AccessKey: d.AccessKey.Value, SecretKey: bucket.Secret(d.SecretKey.Value),
		SessionToken: bucket.Secret(d.SessionToken.Value), Token: bucket.Secret(d.Token.Value), AllowPlain: d.TrustedHTTP,
	})
	switch {
	case err != nil:
	case d.SigningKey.Value != "":
		r.Signer, err = signed.NewSigner([]byte(d.SigningKey.Value), now)
	case d.PublicKey != "":
		r.Keys, err = signed.ReadKeys([]byte(d.PublicKey))
	case !d.Unsigned:
		err = errors.New("there is no key of it here; give signing_key, or public_key to look at it only")
	}
	if err != nil {
		return r, fmt.Errorf("open repository %q: %w", d.Name, err)
	}
	return r, nil
}

// plainBox is the kind of a box of a disk as it is.
const plainBox = "box.libvirt"

// kinds are the kinds of files that a publish makes, by the formats of a definition.
var kinds = map[string][]string{
	"qcow2": {"qcow2"}, "xz": {"xz"}, boxFormat: {plainBox}, "netboot": {"kernel", "initrd"},
}

// edition is what is published of an image.
type edition struct {
	definition.Publish
	formats []string
	top     digest.Digest
	boxes   []box // of its targets; none without the format
}

// newEdition is what a repository gets of an image.
func newEdition(r definition.Repository, p definition.Publish, image definition.Image, layers map[string]digest.Digest) (edition, error) {
	n := edition{Publish: p, formats: r.Formats, top: layers[image.Name]}
	var err error
	if slices.Contains(r.Formats, boxFormat) {
		n.boxes, err = boxes(image, layers)
	}
	return n, err
}

// wanted are the files that a revision must have to be the edition.
func (n edition) wanted() publish.Wanted {
	w := publish.Wanted{manifest.Kind: ""}
	for _, format := range n.formats {
		for _, kind := range kinds[format] {
			w[kind] = ""
		}
	}
	if len(n.boxes) > 0 {
		delete(w, plainBox)
	}
	for _, b := range n.boxes {
		w[b.kind] = string(b.digest)
	}
	return w
}

func (d *Deliverer) publish(ctx context.Context, r definition.Repository, n edition, sink event.Sink) (bool, string, error) {
	to, err := Open(r, d.Now())
	if err != nil {
		return false, "", err
	}
	e, ok, err := to.Published(ctx, n.Name, string(n.top), n.wanted())
	switch {
	case err != nil:
		return false, "", err
	case ok:
		return d.point(ctx, to, e, n.Channel, sink)
	}
	made, done, err := d.revision(ctx, n, sink)
	if err != nil {
		return false, "", err
	}
	e, err = to.Publish(ctx, made, sink)
	return true, published(to, e, n.Channel), errors.Join(err, done())
}

// point lets a channel point to a revision that is there. One that it has been taken
// back from stays as it is: whoever did that knows better than a build.
func (d *Deliverer) point(ctx context.Context, to publish.Repository, e repo.Entry, channel string, sink event.Sink) (bool, string, error) {
	if e.Was(channel) && !e.Has(channel) {
		sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf(
			"%s@%s points to another revision than the %d of this build, to which it pointed before; herdbook repo promote %s@%d --to %s lets it do so again",
			e.Image, channel, e.Revision, e.Image, e.Revision, channel)})
		return false, published(to, e, ""), nil
	}
	fresh := !e.Has(channel)
	e, err := to.Promote(ctx, repo.Selector{Image: e.Of(), Arch: e.Arch, Revision: e.Revision}, channel)
	return fresh, published(to, e, channel), err
}

// published says what is in a repository now.
func published(to publish.Repository, e repo.Entry, channel string) string {
	text := fmt.Sprintf("%s@%d", e.Image, e.Revision)
	if channel != "" {
		text += " (" + channel + ")"
	}
	return fmt.Sprintf("%s in %s", text, to.Address)
}

// revision makes the files of an edition and describes them. What it returns last
// removes them.
func (d *Deliverer) revision(ctx context.Context, of edition, sink event.Sink) (n publish.Revision, done func() error, err error) {
	work, err := d.Store.Begin("")
	if err != nil {
		return n, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(d.Store.Explain(err), work.Discard())
		}
	}()
	dir, err := work.Scratch()
	if err != nil {
		return n, nil, err
	}
	image, system, err := d.open(of.top)
	if err != nil {
		return n, nil, err
	}
	defer func() { err = errors.Join(err, image.Close()) }()
	n.Channel = of.Channel
	if n.Entry, err = d.entry(of.Name, of.top, image, system); err != nil {
		return n, nil, err
	}
	source, err := disk.CutOverlay(ctx, d.Store.DiskPath(of.top), filepath.Join(dir, "cut.qcow2"))
	if err != nil {
		return n, nil, err
	}
	if n.Entry.Size, err = disk.VirtualSize(source); err != nil {
		return n, nil, err
	}
	m := maker{dir: dir, source: source, system: system, sink: sink}
	for _, format := range of.formats {
		if err := m.make(ctx, format, of.boxes); err != nil {
			return n, nil, err
		}
	}
	if m.netboot {
		n.Entry.Cmdline = rootWord(system)
	}
	if err := d.addManifest(ctx, &m, n.Entry, of.top); err != nil {
		return n, nil, err
	}
	n.Files = m.files
	return n, work.Discard, nil
}

// addManifest makes the file that tells what is in the others.
func (d *Deliverer) addManifest(ctx context.Context, m *maker, e repo.Entry, top digest.Digest) error {
	tells, err := d.Manifest(ctx, e.Image, top)
	if err != nil {
		return err
	}
	tells.Size = e.Size
	text, err := tells.Format()
	if err != nil {
		return err
	}
	f, err := pack.Bytes(ctx, text, filepath.Join(m.dir, "manifest.json"))
	m.add(manifest.Kind, ".json", f)
	return err
}

// entry describes a layer for an index.
func (d *Deliverer) entry(name string, top digest.Digest, image *disk.Image, system *inspection.System) (repo.Entry, error) {
	notes, err := d.notes(top)
	if err != nil {
		return repo.Entry{}, err
	}
	table, err := disk.ReadTable(image, image.Size())
	if err != nil && !errors.Is(err, disk.ErrNoTable) {
		return repo.Entry{}, err
	}
	grows := system.Expansion(table)
	return repo.Entry{
		Name: system.Release.PrettyName, OSInfo: system.Release.OSInfo(), Arch: system.GuestfsArchitecture(),
		Expand: grows.Partition, LVExpand: grows.Logical, Notes: notes, Facts: repo.Facts{Image: name, Layer: string(top)},
	}, nil
}

// notes tell an image's pedigree: the steps that made it, oldest first.
func (d *Deliverer) notes(top digest.Digest) (string, error) {
	chain, err := d.Store.Chain(top)
	if err != nil {
		return "", err
	}
	lines := []string{"Made by herdbook:"}
	for _, l := range chain {
		lines = append(lines, fmt.Sprintf("%s: %s (layer %s)", l.Image, l.Step, l.Digest.Short()))
	}
	return strings.Join(lines, "\n"), nil
}

// maker makes the files of a revision.
type maker struct {
	dir    string
	source string // the disk, a qcow2 chain
	system *inspection.System
	sink   event.Sink

	qcow2   pack.File // the compressed disk, once it is made
	netboot bool
	files   []publish.File
}

// make makes what a format of a definition consists of.
func (m *maker) make(ctx context.Context, format string, made []box) error {
	path := func(name string) string { return filepath.Join(m.dir, name) }
	switch format {
	case "qcow2":
		return m.flatten(ctx, true)
	case "xz":
		f, err := pack.XZ(ctx, m.source, path("disk.xz"), m.sink)
		m.add("xz", ".xz", f)
		return err
	case boxFormat:
		return m.boxes(ctx, made)
	case "netboot":
		return m.kernel(ctx, path)
	}
	return fmt.Errorf("there is no format %q", format)
}

// flatten makes the compressed disk, once, and one of the files of it if it is
// asked for.
func (m *maker) flatten(ctx context.Context, asFile bool) (err error) {
	if m.qcow2.Path == "" {
		if m.qcow2, err = pack.QCOW2(ctx, m.source, filepath.Join(m.dir, "disk.qcow2"), m.sink); err != nil {
			return err
		}
	}
	if asFile {
		m.add("qcow2", ".qcow2", m.qcow2)
	}
	return nil
}

// kernel copies the newest kernel and its initrd out of the image.
func (m *maker) kernel(ctx context.Context, path func(string) string) error {
	m.netboot = true
	k, err := m.system.Newest()
	if err == nil && k.Initrd == "" {
		err = fmt.Errorf("its kernel %s has no initrd", k.Version)
	}
	if err != nil {
		return fmt.Errorf("make it bootable over the network: %w", err)
	}
	for _, part := range []struct{ kind, name string }{{"kernel", k.Image}, {"initrd", k.Initrd}} {
		f, err := pack.FromTree(ctx, m.system.Tree(), part.name, path(part.kind), m.sink)
		if err != nil {
			return err
		}
		m.add(part.kind, "."+part.kind, f)
	}
	return nil
}

func (m *maker) add(kind, extension string, f pack.File) {
	m.files = append(m.files, publish.File{Kind: kind, Path: f.Path, Extension: extension, Size: f.Size, SHA256: f.SHA256, SHA512: f.SHA512})
}

// rootWord tells a kernel where its root is.
func rootWord(system *inspection.System) string {
	root := system.Mounts[0]
	if root.Device != "" {
		return "root=/dev/mapper/" + root.Device + " ro"
	}
	return "root=UUID=" + system.FileSystems()[0].FS.UUID + " ro"
}
