package root

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"herdbook/internal/archive"
	"herdbook/internal/artefact"
	"herdbook/internal/container"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/target"
)

// WSL writes IMAGE.wsl: what a container has of the root, as WSL has a kernel of its own.
type WSL struct{ target.WSL }

// Fits implements artefact.Exporter.
func (w *WSL) Fits(s *inspection.System) error {
	if s.Architecture != "amd64" && s.Architecture != "arm64" {
		return fmt.Errorf("WSL runs on amd64 and arm64, and the image is of %s", s.Architecture)
	}
	if w.Systemd && !has(s, "usr/lib/systemd/systemd") && !has(s, "lib/systemd/systemd") {
		return errors.New("the image has no systemd; install it, or say systemd = false")
	}
	if w.User == "" {
		return nil
	}
	passwd, err := s.Tree().Open("etc/passwd")
	if err != nil {
		return err
	}
	defer passwd.Close()
	lines := bufio.NewScanner(passwd)
	for lines.Scan() {
		if name, _, _ := strings.Cut(lines.Text(), ":"); name == w.User {
			return nil
		}
	}
	return errors.Join(lines.Err(), fmt.Errorf("the image has no account %q; make it by a step \"user\"", w.User))
}

func has(s *inspection.System, name string) bool {
	_, err := fs.Stat(s.Tree(), name)
	return err == nil
}

// Write implements artefact.Exporter.
func (w *WSL) Write(ctx context.Context, image *artefact.Image, dir string, sink event.Sink) (artefact.Made, error) {
	made := artefact.Made{Main: image.Name + ".wsl", Names: []string{w.Name}}
	made.Use = []string{"wsl --install --from-file " + made.Main}
	sink.Emit(event.Event{Kind: event.Phase, Text: "pack the root"})
	return made, pack(filepath.Join(dir, made.Main), "gzip", container.Attribute, func(out *archive.Writer) error {
		return container.Write(ctx, out, "", image.System.Tree())
	})
}
