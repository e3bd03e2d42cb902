package docker

import (
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/pgzip"

	"herdbook/internal/digest"
)

// layer is a compressed tar on disk whose digests are known already, so that
// nothing reads it but to copy it. It is a v1.Layer.
type layer struct {
	path             string
	compressed, diff digest.Digest
	size, unpacked   int64
}

func hash(d digest.Digest) (v1.Hash, error) { return v1.NewHash("sha256:" + string(d)) }

func (l *layer) Digest() (v1.Hash, error)             { return hash(l.compressed) }
func (l *layer) DiffID() (v1.Hash, error)             { return hash(l.diff) }
func (l *layer) Size() (int64, error)                 { return l.size, nil }
func (l *layer) MediaType() (types.MediaType, error)  { return types.OCILayer, nil }
func (l *layer) Compressed() (io.ReadCloser, error)   { return os.Open(l.path) }
func (l *layer) Uncompressed() (io.ReadCloser, error) { return openGzip(l.path) }

// gzipFile is the unpacked content of a file.
type gzipFile struct {
	*pgzip.Reader
	file *os.File
}

func openGzip(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r, err := pgzip.NewReader(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return gzipFile{r, f}, nil
}

func (g gzipFile) Close() error {
	g.Reader.Close()
	return g.file.Close()
}
