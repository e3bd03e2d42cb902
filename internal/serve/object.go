package serve

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"syscall"
)

// The types of contents, by what names end in (IANA's registry; shared-mime-info for
// the last ones). What is not here is bytes.
var contentTypes = map[string]string{
	"":        plainText, // index, SHA512SUMS
	".asc":    plainText,
	".txt":    plainText,
	".ipxe":   plainText,
	".sjson":  plainText, // clear-signed, so no longer JSON
	".json":   "application/json",
	".gz":     "application/gzip",
	".zst":    "application/zstd",
	".xz":     "application/x-xz",
	".tar":    "application/x-tar",
	".qcow2":  "application/x-qemu-disk",
	".iso":    "application/vnd.efi.iso",
	".img":    "application/vnd.efi.img",
	".box":    bytesOnly,
	".kernel": bytesOnly,
	".initrd": bytesOnly,
}

const (
	plainText = "text/plain; charset=utf-8"
	bytesOnly = "application/octet-stream"
)

// contentType is the type of an object by its name. What is below images is bytes
// where its name does not say.
func contentType(name string) string {
	extension := path.Ext(name)
	known, ok := contentTypes[extension]
	if !ok || extension == "" && immutable(name) {
		return bytesOnly
	}
	return known
}

// isText tells what is worth packing, and small as a rule.
func isText(contentType string) bool {
	return contentType == plainText || contentType == "application/json"
}

// immutable tells of objects that are named by their content.
func immutable(name string) bool { return strings.HasPrefix(name, "images/") }

// cacheControl is how long others may keep an object. What was read with a password
// is for the one who read it.
func cacheControl(name string, public bool) string {
	switch {
	case !immutable(name):
		return "no-cache" // keep it, but ask each time
	case public:
		return "public, max-age=31536000, immutable"
	}
	return "private, max-age=31536000, immutable"
}

// etag is the strong one of a version.
func etag(version string) string { return `"` + version + `"` }

// object answers with an object.
func (s *Server) object(w http.ResponseWriter, r *http.Request, name string) {
	if isText(contentType(name)) {
		t, err := s.texts.get(r.Context(), name)
		if err != nil {
			s.refuseObject(w, name, err)
			return
		}
		if t.whole() {
			t.serve(w, r)
			return
		}
	}
	if _, err := objectName("/" + name); err != nil {
		s.refuseObject(w, name, fs.ErrNotExist)
		return
	}
	body, o, err := s.bucket.Open(r.Context(), name)
	if err != nil {
		s.refuseObject(w, name, err)
		return
	}
	defer body.Close() // it was only read
	file, ok := body.(io.ReadSeeker)
	if !ok {
		s.refuseObject(w, name, errors.New("its bucket cannot seek"))
		return
	}
	h := w.Header()
	h.Set("Content-Type", contentType(name))
	h.Set("Etag", etag(o.Version))
	h.Set("Cache-Control", cacheControl(name, len(s.options.Readers) == 0))
	http.ServeContent(w, r, "", o.Modified, file)
}

// refuseObject answers that an object cannot be had.
func (s *Server) refuseObject(w http.ResponseWriter, name string, err error) {
	var path *fs.PathError
	var kernel syscall.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.As(err, &path) && !errors.As(err, &kernel): // a link on the way leads out of the tree: os.Root
		refuse(w, http.StatusNotFound, "there is no such object in this repository")
	case errors.Is(err, context.Canceled):
		refuse(w, http.StatusServiceUnavailable, "the request was called off")
	case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE):
		s.notice("%v", err)
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, "too many objects are open")
	default:
		s.notice("%v", err)
		refuse(w, http.StatusInternalServerError, "the object "+name+" cannot be read")
	}
}

// version is the version in an entity tag, which must be a strong one.
func version(tag string) (string, bool) {
	inner, first := strings.CutPrefix(tag, `"`)
	inner, last := strings.CutSuffix(inner, `"`)
	return inner, first && last && inner != "" && !strings.ContainsAny(inner, `",`)
}
