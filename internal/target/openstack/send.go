package openstack

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"

	"herdbook/internal/artefact"
	"herdbook/internal/digest"
	"herdbook/internal/disk"
	"herdbook/internal/event"
)

// attempts is how often a cloud is asked for the same before its answer is believed.
const attempts = 5

// Send implements artefact.Sender. Each attempt looks first what the cloud has, so that
// one that was cut off is gone on with, in this run or a later one.
func (e *Exporter) Send(ctx context.Context, dir string, m artefact.Manifest, sink event.Sink) (where string, fresh bool, err error) {
	if !e.Sends() {
		return "", false, nil
	}
	found, file, err := factsOf(m)
	if err != nil {
		return "", false, err
	}
	found.Properties[sourceProperty] = string(file)
	a, err := e.access()
	if err != nil {
		return "", false, fmt.Errorf("upload to OpenStack: %w", err)
	}
	path := filepath.Join(dir, m.Main)
	d := &delivery{Exporter: e, facts: found, path: path, source: file, origin: origin(path), sink: sink}
	for n := 1; ; n++ {
		id, err := d.attempt(ctx, a)
		switch {
		case err == nil:
			return fmt.Sprintf("%s (%s) in %s", e.Name, id, a.name), d.changed, nil
		case ctx.Err() != nil:
			return "", false, context.Cause(ctx)
		case n == attempts || !transient(err):
			return "", false, fmt.Errorf("upload %s to %s: %w", e.Name, a.name, explain(err))
		}
		wait := max(e.first()<<(n-1), retryAfter(err))
		sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("%s: %v; tried again in %s", a.name, explain(err), wait)})
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return "", false, context.Cause(ctx)
		}
	}
}

// first is the pause before the first repetition; each next one is twice as long.
func (e *Exporter) first() time.Duration {
	if e.pause > 0 {
		return e.pause
	}
	return time.Second
}

// delivery is one image on its way into one cloud.
type delivery struct {
	*Exporter
	facts   facts
	path    string
	source  digest.Digest // of the file
	origin  string        // of the upload
	sink    event.Sink
	changed bool // the cloud is not as it was
}

// attempt has the cloud as it is wanted, whatever of it is there already.
func (d *delivery) attempt(ctx context.Context, a access) (id string, err error) {
	c, err := a.enter(ctx)
	if err != nil {
		return "", err
	}
	before, err := c.list(ctx, d.Name)
	if err != nil {
		return "", err
	}
	image, err := d.there(ctx, c, before)
	if err != nil {
		return "", err
	}
	if err := d.promote(ctx, c, image); err != nil {
		return "", err
	}
	now := before
	if d.changed { // which takes its time
		if now, err = c.list(ctx, d.Name); err != nil {
			return "", err
		}
	}
	if err := d.rotate(ctx, c, d.newest(image, before, now), now); err != nil || !d.changed {
		return image.ID, err
	}
	return image.ID, d.settle(ctx, c, image.ID)
}

// settle sees to it that somebody has the name: two builds at a time may each have taken it
// from the other. Whoever looks last finds that so.
func (d *delivery) settle(ctx context.Context, c *cloud, id string) error {
	all, err := c.list(ctx, d.Name)
	if err != nil || slices.ContainsFunc(all, func(i images.Image) bool { return i.Name == d.Name && !i.Hidden }) {
		return err
	}
	image, err := images.Get(ctx, c.images, id).Extract()
	if gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
		return fmt.Errorf("another build has deleted the image %s that this one brought: build again, one at a time", id)
	}
	if err != nil {
		return fmt.Errorf("look at the image again: %w", err)
	}
	return d.promote(ctx, c, image)
}

// newest is which image has the name in the end, if others came while this one was brought:
// the one that was begun last, so that all who look agree.
func (d *delivery) newest(image *images.Image, before, now []images.Image) *images.Image {
	for i, other := range now {
		if other.ID == image.ID {
			break // what follows is older
		}
		known := slices.ContainsFunc(before, func(b images.Image) bool { return b.ID == other.ID && b.Name != d.incomplete() })
		if !known && other.Name == d.Name && !other.Hidden {
			d.sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("another build has brought a newer %s meanwhile, %s: that has the name", d.Name, other.ID)})
			return &now[i]
		}
	}
	return image
}

// there finds the image with the bytes of the file, or uploads it. What an upload from here
// left half done goes; if only the proof was left, it is brought. One from elsewhere may
// still go on.
func (d *delivery) there(ctx context.Context, c *cloud, all []images.Image) (found *images.Image, err error) {
	for i, image := range all {
		ours := property(image, sourceProperty) == string(d.source) && image.Status == images.ImageStatusActive
		switch {
		case image.Name != d.incomplete():
			if found == nil && ours {
				found = &all[i]
			}
			continue
		case property(image, originProperty) != d.origin:
			continue
		case found == nil && ours:
			if err := d.verify(ctx, &all[i]); err == nil {
				found = &all[i]
				continue
			} else if _, damaged := errors.AsType[*damagedError](err); !damaged {
				return nil, err
			}
		}
		if err := c.remove(ctx, image.ID); err != nil {
			return nil, fmt.Errorf("delete what an upload left: %w", err)
		}
	}
	if found == nil {
		d.changed = true
		return d.upload(ctx, c)
	}
	return found, nil
}

// origin tells uploads of a file from those of others: herdbook lets no two at a time bring
// one file of one machine.
func origin(path string) string {
	host, _ := os.Hostname() // "" is a name, too
	return string(digest.Of([]byte(host + "\n" + path)))
}

// incomplete is the name of an image that is not proved to be whole.
func (d *delivery) incomplete() string { return d.Name + " (incomplete)" }

// upload makes the image under a name of its own, hidden, and proves that the cloud has
// what was sent.
func (d *delivery) upload(ctx context.Context, c *cloud) (*images.Image, error) {
	d.sink.Emit(event.Event{Kind: event.Phase, Text: "upload to " + c.name})
	hidden, private := true, images.ImageVisibilityPrivate
	properties := maps.Clone(d.facts.Properties)
	properties[originProperty] = d.origin
	image, err := images.Create(ctx, c.images, images.CreateOpts{
		Name: d.incomplete(), Visibility: &private, Hidden: &hidden, ContainerFormat: "bare", DiskFormat: d.facts.Format,
		MinDisk: d.facts.MinDisk, MinRAM: d.facts.MinRAM, Properties: properties,
	}).Extract()
	if err != nil {
		return nil, fmt.Errorf("make the image: %w", err)
	}
	id := image.ID
	if err = d.bring(ctx, c, id); err == nil {
		image, err = d.await(ctx, c, id)
	}
	if err == nil {
		err = d.verify(ctx, image)
	}
	if err == nil {
		return image, nil
	}
	if _, damaged := errors.AsType[*damagedError](err); (damaged || !transient(err)) && ctx.Err() == nil {
		err = errors.Join(err, c.remove(ctx, id)) // nobody would come back to it
	}
	return nil, err
}

// verify holds what the cloud says that it has against the file.
func (d *delivery) verify(ctx context.Context, image *images.Image) error {
	want, err := sum(ctx, d.path, d.source)
	if err != nil {
		return err
	}
	if image.DiskFormat != d.facts.Format && image.DiskFormat == string(disk.Raw) { // the cloud has unpacked it
		if want, err = sumDisk(ctx, d.path, disk.Format(d.facts.Format)); err != nil {
			return err
		}
	}
	algorithm, have := property(*image, "os_hash_algo"), property(*image, "os_hash_value")
	expected, ok := map[string]string{"sha512": want.sha512, "sha256": want.sha256}[algorithm]
	if !ok {
		algorithm, have, expected = "md5", image.Checksum, want.md5
	}
	if have != expected || image.SizeBytes != want.size {
		return &damagedError{fmt.Sprintf("the cloud has %d bytes with the %s %.16s…, and %d with %.16s… were sent", image.SizeBytes, algorithm, have, want.size, expected)}
	}
	return nil
}

// sums are the checksums of a file.
type sums struct {
	size                int64
	md5, sha256, sha512 string
}

// sum reads the file, which must still be the one of the manifest.
func sum(ctx context.Context, path string, want digest.Digest) (*sums, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s, err := sumReader(ctx, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if s.sha256 != string(want) {
		return nil, fmt.Errorf("%s is no longer what was exported: delete it, and export again", path)
	}
	return s, nil
}

// sumDisk reads what is on a disk.
func sumDisk(ctx context.Context, path string, format disk.Format) (*sums, error) {
	image, err := disk.Open(path, format)
	if err != nil {
		return nil, err
	}
	s, err := sumReader(ctx, io.NewSectionReader(image, 0, image.Size()))
	return s, errors.Join(err, image.Close())
}

func sumReader(ctx context.Context, r io.Reader) (*sums, error) {
	a, b, c := md5.New(), sha256.New(), sha512.New()
	size, err := io.CopyBuffer(io.MultiWriter(a, b, c), artefact.Within(ctx, r), make([]byte, 1<<20))
	return &sums{size, hex.EncodeToString(a.Sum(nil)), hex.EncodeToString(b.Sum(nil)), hex.EncodeToString(c.Sum(nil))}, err
}

// upload is a body that tells how far it is.
type upload struct {
	r          io.Reader
	size, done int64
	told       int64 // percent
	sink       event.Sink
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	u.done += int64(n)
	if percent := u.done * 100 / max(1, u.size); percent != u.told {
		u.told = percent
		u.sink.Emit(event.Event{Kind: event.Progress, Done: u.done, Total: u.size})
	}
	return n, err
}

// Close implements io.Closer: the file is its opener's.
func (u *upload) Close() error { return nil }
