// Package root exports the root of an image as a tar: for whoever unpacks it (tar), for the
// Windows Subsystem for Linux (wsl), and for Incus and LXD (incus), which take the disk of
// a virtual machine besides. No machine is started.
//
// Equal layers and options give equal bytes.
package root

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"

	"herdbook/internal/archive"
	"herdbook/internal/artefact"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/target"
)

// Tar writes IMAGE.tar.gz, IMAGE.tar.zst or IMAGE.tar, all of the root.
type Tar struct{ target.Tar }

// Fits implements artefact.Exporter: every root is files.
func (*Tar) Fits(*inspection.System) error { return nil }

// Write implements artefact.Exporter.
func (t *Tar) Write(ctx context.Context, image *artefact.Image, dir string, sink event.Sink) (artefact.Made, error) {
	suffix := map[string]string{"gzip": ".tar.gz", "zstd": ".tar.zst", "none": ".tar"}[t.Compression]
	made := artefact.Made{Main: image.Name + suffix}
	made.Use = []string{"tar --extract --preserve-permissions --same-owner --xattrs --xattrs-include='*' --file " + made.Main + " --directory DIRECTORY"}
	sink.Emit(event.Event{Kind: event.Phase, Text: "pack the root"})
	path, err := image.Part(ctx, "root tar 1, "+t.Compression, func(path string) error {
		return pack(path, t.Compression, nil, func(out *archive.Writer) error { return out.Tree(ctx, image.System.Tree()) })
	})
	if err != nil {
		return made, err
	}
	return made, artefact.Place(path, filepath.Join(dir, made.Main))
}

// pack writes a compressed tar. Keep is that of archive.NewWriter.
func pack(path, compression string, keep func(string) bool, fill func(*archive.Writer) error) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	compressed, err := compress(f, compression)
	if err != nil {
		return err
	}
	out := archive.NewWriter(compressed, keep)
	return errors.Join(fill(out), out.Close(), compressed.Close())
}

// plain is a writer that compresses nothing.
type plain struct{ io.Writer }

func (plain) Close() error { return nil }

// compress compresses what is written. How many processors there are decides no byte.
func compress(w io.Writer, compression string) (io.WriteCloser, error) {
	switch compression {
	case "gzip":
		z := pgzip.NewWriter(w)
		return z, z.SetConcurrency(1<<20, runtime.GOMAXPROCS(0))
	case "zstd":
		return zstd.NewWriter(w)
	}
	return plain{w}, nil
}
