package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"

	"herdbook/internal/artefact"
	"herdbook/internal/event"
	"herdbook/internal/sbom"
)

const (
	maxTries  = 5 // of one request that may succeed later
	maxAtOnce = 3 // uploads
)

// Send implements artefact.Sender: it pushes the image of the layout, and the list of its
// packages. What a registry has of them already is not sent.
func (e *Exporter) Send(ctx context.Context, dir string, m artefact.Manifest, sink event.Sink) (where string, fresh bool, err error) {
	if len(e.Push) == 0 {
		return "", false, nil
	}
	images, err := readLayout(filepath.Join(dir, m.Image+".oci"), e.SBOM)
	if err != nil {
		return "", false, err
	}
	var all []string
	for _, to := range e.Push {
		options := []name.Option{name.StrictValidation}
		if e.Insecure {
			options = append(options, name.Insecure)
		}
		tag, err := name.NewTag(to, options...)
		if err != nil {
			return "", false, err
		}
		sent, err := e.push(ctx, tag, images, sink)
		if ctx.Err() != nil {
			return "", false, context.Cause(ctx)
		}
		if err != nil {
			return "", false, fmt.Errorf("push to %s: %w", tag, explain(tag.Repository, err))
		}
		fresh = fresh || sent
		all = append(all, tag.String()+"@"+images[0].digest.String())
	}
	return strings.Join(all, ", "), fresh, nil
}

// pushed is an image, or an artefact in the form of one.
type pushed struct {
	v1.Image
	digest v1.Hash
}

// readLayout reads the image of a layout, and the list of packages that refers to it, if
// there is one.
func readLayout(path string, sbomToo bool) (images []pushed, err error) {
	at, err := layout.FromPath(path)
	if err != nil {
		return nil, err
	}
	index, err := at.ImageIndex()
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	n := len(manifest.Manifests)
	if n == 0 || sbomToo && manifest.Manifests[n-1].ArtifactType != sbom.MediaType {
		return nil, fmt.Errorf("%s is not the layout that was written: delete it, and export again", path)
	}
	wanted := manifest.Manifests[:1]
	if sbomToo {
		wanted = []v1.Descriptor{manifest.Manifests[0], manifest.Manifests[n-1]}
	}
	for _, d := range wanted {
		image, err := index.Image(d.Digest)
		if err != nil {
			return nil, err
		}
		images = append(images, pushed{image, d.Digest})
	}
	return images, nil
}

// push brings an image to a repository of a registry under a tag, and behind it the list
// of its packages, if there is one. It tells whether anything was not there.
func (e *Exporter) push(ctx context.Context, tag name.Tag, images []pushed, sink event.Sink) (fresh bool, err error) {
	options := []remote.Option{
		remote.WithAuthFromKeychain(findAccounts(e.LookupEnv)), remote.WithTransport(guarded{remote.DefaultTransport, e.Insecure}), remote.WithUserAgent("herdbook"),
		// Here it is tried again, and not below: that waits for a cancelled context.
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}), remote.WithRetryPredicate(func(error) bool { return false }), remote.WithRetryStatusCodes(),
	}
	p := push{tries: tries{e.pause, sink}, sink: sink}
	if p.puller, err = remote.NewPuller(options...); err != nil {
		return false, err
	}
	if p.Pusher, err = remote.NewPusher(options...); err != nil {
		return false, err
	}
	there, err := p.has(ctx, tag, images[0].digest)
	if err != nil {
		return false, err
	}
	if !there {
		sink.Emit(event.Event{Kind: event.Phase, Text: "push to " + tag.String()})
		if err := p.image(ctx, tag, images[0]); err != nil {
			return false, err
		}
	}
	for _, list := range images[1:] {
		sent, err := p.refer(ctx, tag.Digest(images[0].digest.String()), list)
		switch {
		case err == nil:
			there = there && !sent
		case refused(err):
			sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("%s has the image, and does not take the list of its packages: %s; sbom = false leaves that out", tag, short(err))})
		default:
			return false, err
		}
	}
	return !there, nil
}

// has tells whether a registry has an image by a name.
func (p *push) has(ctx context.Context, ref name.Reference, digest v1.Hash) (there bool, err error) {
	err = p.again(ctx, func() error {
		found, err := p.puller.Head(ctx, ref)
		var status *transport.Error
		// Some registries say 403 of what is not there; then the push tells more.
		if errors.As(err, &status) && (status.StatusCode == http.StatusNotFound || status.StatusCode == http.StatusForbidden) {
			return nil
		}
		there = err == nil && found.Digest == digest
		return err
	})
	return there, err
}

// refer brings a list to the image that it refers to, unless it is among what refers to
// that: the list itself may be there, and nobody find it.
func (p *push) refer(ctx context.Context, to name.Digest, list pushed) (sent bool, err error) {
	there := false
	err = p.again(ctx, func() error {
		index, err := remote.Referrers(to, remote.WithContext(ctx), remote.Reuse(p.puller))
		if err != nil {
			return err
		}
		manifest, err := index.IndexManifest()
		if err != nil {
			return err
		}
		there = slices.ContainsFunc(manifest.Manifests, func(d v1.Descriptor) bool { return d.Digest == list.digest })
		return nil
	})
	if err != nil || there {
		return false, err
	}
	return true, p.image(ctx, to.Context().Digest(list.digest.String()), list)
}

// refused tells whether a registry will never take what it was sent, for another reason
// than who sends it.
func refused(err error) bool {
	var status *transport.Error
	if !errors.As(err, &status) || passing(err) {
		return false
	}
	code := status.StatusCode
	return code/100 == 4 && code != http.StatusUnauthorized || code == http.StatusNotImplemented
}

// push is the sending of one image.
type push struct {
	*remote.Pusher
	tries
	puller *remote.Puller
	sink   event.Sink
	total  int64        // bytes of all blobs
	sent   atomic.Int64 // bytes that the registry has
}

// image uploads the blobs of an image, each for itself until it is there, and then the
// manifest that names them.
func (p *push) image(ctx context.Context, to name.Reference, image pushed) error {
	blobs, err := image.Layers()
	if err != nil {
		return err
	}
	config, err := partial.ConfigLayer(image)
	if err != nil {
		return err
	}
	blobs = append(blobs, config)
	p.total = 0
	p.sent.Store(0)
	for _, b := range blobs {
		size, err := b.Size()
		if err != nil {
			return err
		}
		p.total += size
	}
	group, uploading := errgroup.WithContext(ctx)
	group.SetLimit(maxAtOnce)
	for _, b := range blobs {
		group.Go(func() error { return p.blob(uploading, to.Context(), b) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return p.again(ctx, func() error { return p.Put(ctx, to, image) })
}

// blob uploads one blob, unless it is there.
func (p *push) blob(ctx context.Context, to name.Repository, b v1.Layer) error {
	size, err := b.Size()
	if err != nil {
		return err
	}
	return p.again(ctx, func() error {
		counted := &counted{Layer: b, count: p.add}
		err := p.Upload(ctx, to, counted)
		if read := counted.end(); err != nil {
			p.add(-read)
		} else {
			p.add(size - read)
		}
		return err
	})
}

// add counts bytes that the registry has, and tells of each percent.
func (p *push) add(n int64) {
	done := p.sent.Add(n)
	if done*100/p.total != (done-n)*100/p.total {
		p.sink.Emit(event.Event{Kind: event.Progress, Done: done, Total: p.total})
	}
}

// counted is a layer that tells how much of it was read, until its end: a broken upload may
// read on for a while.
type counted struct {
	v1.Layer
	count func(int64)

	mu    sync.Mutex
	read  int64
	ended bool
}

// Compressed implements v1.Layer.
func (c *counted) Compressed() (io.ReadCloser, error) {
	r, err := c.Layer.Compressed()
	return countedReader{r, c}, err
}

func (c *counted) end() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	return c.read
}

type countedReader struct {
	io.ReadCloser
	of *counted
}

func (r countedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	if !r.of.ended {
		r.of.read += int64(n)
		r.of.count(int64(n))
	}
	return n, err
}

// tries do again what may succeed later, after a pause that doubles, or one that the
// registry wants.
type tries struct {
	pause time.Duration // 0 is a second
	sink  event.Sink
}

func (t tries) again(ctx context.Context, do func() error) error {
	pause := t.pause
	if pause == 0 {
		pause = time.Second
	}
	for n := 1; ; n++ {
		err := do()
		if err == nil || n == maxTries || ctx.Err() != nil || !passing(err) {
			return err
		}
		wait := max(pause, retryAfter(err))
		t.sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("the registry is asked again in %s: %s", wait, short(err))})
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		pause *= 2
	}
}

// passing tells whether an error may be gone at the next try.
func passing(err error) bool {
	var status *transport.Error
	if errors.As(err, &status) {
		return status.Temporary() || status.StatusCode == http.StatusTooManyRequests || status.StatusCode >= 500 && status.StatusCode != http.StatusNotImplemented
	}
	return dropped(err)
}

// dropped tells whether an error is that of a connection that broke.
func dropped(err error) bool {
	var network net.Error
	for _, one := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.EPIPE, syscall.ECONNRESET, net.ErrClosed} {
		if errors.Is(err, one) {
			return true
		}
	}
	return errors.As(err, &network) && network.Timeout()
}
