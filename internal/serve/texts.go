package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/singleflight"

	"herdbook/internal/bucket"
)

// The bounds of what is kept: larger texts are read from their files each time, and
// are not packed.
const (
	maxText  = 32 << 20 // bytes of one
	maxTexts = 24 << 20 // bytes of all in memory
	maxFiles = 256      // that are open
)

// sendFrom is the size in bytes from which on the kernel sends a file faster than a
// copy of it in memory.
const sendFrom = 16 << 10

// maxBody is the size in bytes up to which a text is in memory, too: net/http then
// needs no buffer for each client that takes it.
const maxBody = 4 << 20

// texts keeps the small objects that everybody reads, open and packed. Each request
// asks the kernel whether the file is still the one that was read, which costs a
// microsecond or less: so nobody gets an old one after it was replaced, whoever did that.
type texts struct {
	dir    string
	bucket bucket.Bucket
	public bool
	limit  int64 // bytes in memory
	files  int   // that are open

	mu     sync.RWMutex
	kept   map[string]*text
	size   int64 // of what is kept
	flight singleflight.Group
}

// text is one of them, with the lines of its header. One that is too large is
// without.
type text struct {
	path    string
	seen    identity
	object  bucket.Object
	plain   variant
	packed  variant             // without body: not worth it
	headers map[string][]string // of both
	looked  atomic.Int64        // when current was asked by still, in nanoseconds
}

// variant is one form of a text.
type variant struct {
	body   []byte   // nil: it is in the file only
	file   *os.File // closed when nobody reads it any more, by the collector of garbage
	size   int64
	etag   []string
	length []string
	head   []byte // of an answer with all of it, but for the date and the end
}

// identity is another one when a file may have another content.
type identity struct {
	device, inode    uint64
	links            uint64
	size             int64
	modified, status syscall.Timespec
}

func identify(path string) (identity, error) {
	var s syscall.Stat_t
	if err := syscall.Lstat(path, &s); err != nil {
		return identity{}, err
	}
	return identityOf(&s), nil
}

func identityOf(s *syscall.Stat_t) identity {
	return identity{device: s.Dev, inode: s.Ino, links: s.Nlink, size: s.Size, modified: s.Mtim, status: s.Ctim}
}

// current tells whether the file is still the one that was read.
func (t *text) current() bool {
	now, err := identify(t.path)
	return err == nil && now == t.seen
}

// lookEvery is how old the last look at a path may be, if the file is open: a file that
// is written to, or that another one takes the place of, says so itself. Only a whole
// directory could be exchanged without that.
const lookEvery = 10 * time.Millisecond

// still is current for less: it asks the open file, and now and then the path.
func (t *text) still(now time.Time) bool {
	looked := t.looked.Load()
	if t.plain.file == nil || now.UnixNano()-looked >= int64(lookEvery) || now.UnixNano() < looked {
		t.looked.Store(now.UnixNano())
		return t.current()
	}
	var s syscall.Stat_t
	return syscall.Fstat(int(t.plain.file.Fd()), &s) == nil && identityOf(&s) == t.seen
}

// whole tells whether the content is in memory.
func (t *text) whole() bool { return t.plain.etag != nil }

func (t *text) weight() int64 { return int64(len(t.plain.body)+len(t.packed.body)) + 1024 }

// at is get, but only of what is a text by its name, and faster.
func (c *texts) at(ctx context.Context, name []byte, now time.Time) (*text, error) {
	c.mu.RLock()
	t := c.kept[string(name)]
	c.mu.RUnlock()
	if t != nil && t.still(now) {
		return t, nil
	}
	if !isText(contentType(string(name))) {
		return nil, fs.ErrNotExist
	}
	return c.get(ctx, string(name))
}

// get is the text that an object is now.
func (c *texts) get(ctx context.Context, name string) (*text, error) {
	c.mu.RLock()
	t := c.kept[name]
	c.mu.RUnlock()
	if t != nil && t.current() {
		return t, nil
	}
	if _, err := objectName("/" + name); err != nil {
		return nil, fs.ErrNotExist
	}
	// A publish makes every client come here: one reads, the others wait. Who comes
	// while it is read may not have what was there before it came.
	for again := 0; ; again++ {
		got, err, shared := c.flight.Do(name, func() (any, error) {
			t, err := c.read(context.WithoutCancel(ctx), name)
			c.keep(name, t)
			return t, err
		})
		t, _ = got.(*text)
		if !shared || again > 0 {
			return t, err
		}
		if err == nil && t.current() {
			return t, nil
		}
	}
}

// keep has t, which may be nil, in place of what was kept of an object.
func (c *texts) keep(name string, t *text) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.kept[name]; old != nil {
		c.size -= old.weight()
		delete(c.kept, name)
	}
	if t == nil {
		return
	}
	for other, old := range c.kept { // in no order, which is good enough
		if c.size+t.weight() <= c.limit && len(c.kept) < c.files {
			break
		}
		c.size -= old.weight()
		delete(c.kept, other)
	}
	if c.kept == nil {
		c.kept = map[string]*text{}
	}
	c.kept[name] = t
	c.size += t.weight()
}

func (c *texts) read(ctx context.Context, name string) (t *text, err error) {
	r, o, err := c.bucket.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	f, ok := r.(*os.File)
	if !ok {
		return nil, errors.Join(fmt.Errorf("read %s: it is no file", name), r.Close())
	}
	keep := false
	defer func() {
		if !keep {
			err = errors.Join(err, f.Close())
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	t = &text{path: filepath.Join(c.dir, filepath.FromSlash(name)), object: o}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		t.seen = identityOf(s)
	}
	if o.Size > maxText {
		return t, nil
	}
	t.plain = variant{size: o.Size, etag: []string{etag(o.Version)}, length: []string{strconv.FormatInt(o.Size, 10)}}
	if o.Size <= maxBody {
		t.plain.body = make([]byte, o.Size)
		_, err = io.ReadFull(f, t.plain.body)
	}
	if o.Size >= sendFrom {
		t.plain.file, keep = f, true
	}
	packed, packErr := pack(io.NewSectionReader(f, 0, o.Size))
	if err := errors.Join(err, packErr); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(packed)) < o.Size {
		// Another representation, so another tag; no bucket gives such a version.
		t.packed = variant{body: packed, size: int64(len(packed)), etag: []string{etag(o.Version + "+gzip")}, length: []string{strconv.Itoa(len(packed))}}
	}
	t.headers = map[string][]string{
		"Content-Type":  {contentType(name)},
		"Last-Modified": {o.Modified.UTC().Format(http.TimeFormat)},
		"Cache-Control": {cacheControl(name, c.public)},
		"Vary":          {"Accept-Encoding"},
		"Accept-Ranges": {"bytes"},
	}
	t.plain.head, t.packed.head = t.head(t.plain, nil), t.head(t.packed, encodedGzip)
	return t, nil
}

// head is the beginning of an answer, as net/http writes it.
func (t *text) head(v variant, encoding []string) []byte {
	h := http.Header{"Etag": v.etag, "Content-Length": v.length, "X-Content-Type-Options": nosniff}
	if encoding != nil {
		h["Content-Encoding"] = encoding
	}
	maps.Copy(h, t.headers)
	b := bytes.NewBufferString("HTTP/1.1 200 OK\r\n")
	_ = h.Write(b) // memory takes everything
	return b.Bytes()
}

func pack(r io.Reader) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err := io.Copy(z, r)
	if err := errors.Join(err, z.Close()); err != nil {
		return nil, err
	}
	return bytes.Clone(out.Bytes()), nil
}

// conditional are the headers that make more of a request than "give me all of it".
var conditional = []string{"Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since"}

var encodedGzip = []string{"gzip"}

// serve answers with it.
func (t *text) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	for key, value := range t.headers {
		h[key] = value
	}
	v := t.plain
	if len(t.packed.body) > 0 && acceptsGzip(r.Header["Accept-Encoding"]) {
		v = t.packed
		h["Content-Encoding"] = encodedGzip
	}
	h["Etag"] = v.etag
	for _, key := range conditional {
		if len(r.Header[key]) > 0 {
			http.ServeContent(w, r, "", t.object.Modified, v.content())
			return
		}
	}
	h["Content-Length"] = v.length
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		v.send(w, r)
	}
}

func (v *variant) content() io.ReadSeeker {
	if v.body != nil {
		return bytes.NewReader(v.body)
	}
	return io.NewSectionReader(v.file, 0, v.size)
}

// send sends the whole.
func (v *variant) send(w http.ResponseWriter, r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		buffer, _ := heads.Get().(*[maxHeld]byte)
		c.hold(buffer[:], v.body, v.file)
		defer func() {
			_ = c.letGo() // the client is gone, and net/http sees it, too
			heads.Put(buffer)
		}()
	}
	if v.body != nil {
		_, _ = w.Write(v.body) // likewise
	} else {
		_, _ = io.Copy(w, &part{file: v.file, size: v.size})
	}
}

// heads are buffers for the beginnings of answers.
var heads = sync.Pool{New: func() any { return new([maxHeld]byte) }}

// acceptsGzip reads Accept-Encoding (RFC 9110 §12.5.3).
func acceptsGzip(lines []string) bool {
	any, found := false, false
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			coding, parameter, _ := strings.Cut(part, ";")
			coding = strings.ToLower(strings.TrimSpace(coding))
			if coding != "gzip" && coding != "x-gzip" && coding != "*" {
				continue
			}
			weight := 1.0
			if key, value, ok := strings.Cut(strings.TrimSpace(parameter), "="); ok && strings.EqualFold(strings.TrimSpace(key), "q") {
				var err error
				if weight, err = strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil {
					weight = 0
				}
			}
			if coding != "*" {
				return weight > 0
			}
			any, found = weight > 0, true
		}
	}
	return found && any
}
