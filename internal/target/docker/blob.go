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

// blob is a layer as the library knows it.
type blob struct{ *layer }

func hash(d digest.Digest) (v1.Hash, error) { return v1.NewHash("sha256:" + string(d)) }

func (b blob) Digest() (v1.Hash, error)             { return hash(b.layer.Compressed) }
func (b blob) DiffID() (v1.Hash, error)             { return hash(b.Diff) }
func (b blob) Size() (int64, error)                 { return b.layer.Size, nil }
func (b blob) MediaType() (types.MediaType, error)  { return types.OCILayer, nil }
func (b blob) Compressed() (io.ReadCloser, error)   { return os.Open(b.path) }
func (b blob) Uncompressed() (io.ReadCloser, error) { return openGzip(b.path) }

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
