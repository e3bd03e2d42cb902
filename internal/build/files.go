package build

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"herdbook/internal/definition"
	"herdbook/internal/op"
	"herdbook/internal/workshop"
)

// hostFiles is the tar of what operations lay down, which a machine sees as a
// read-only disk.
type hostFiles struct {
	file *os.File
	tar  *tar.Writer
}

// gather begins the tar at a path.
func gather(name string) (*hostFiles, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("gather files: %w", err)
	}
	return &hostFiles{f, tar.NewWriter(f)}, nil
}

// add adds the files of one operation below a name. Owners are set in the guest,
// and times are left out, since a fresh checkout has others.
func (h *hostFiles) add(top string, inputs []definition.Input) error {
	for _, input := range inputs {
		if err := addInput(h.tar, path.Join(top, input.Name), input); err != nil {
			return fmt.Errorf("gather files: %s: %w", input.Path, err)
		}
	}
	return nil
}

// close ends the tar.
func (h *hostFiles) close() error {
	// A disk has whole sectors, and machines want a few of them.
	const least = 1 << 20
	err := h.tar.Close()
	stat, statErr := h.file.Stat()
	if err = errors.Join(err, statErr); err == nil && stat.Size() < least {
		err = h.file.Truncate(least)
	}
	if err = errors.Join(err, h.file.Close()); err != nil {
		return fmt.Errorf("gather files: %w", err)
	}
	return nil
}

// equip gives a session its operations, and the tar of what they lay down: inputs
// has a list for each operation, or is nil.
func equip(s *workshop.Session, operations []op.Operation, inputs [][]definition.Input) error {
	files, err := gather(filepath.Join(s.Scratch, "files.tar"))
	if err != nil {
		return err
	}
	for i, o := range operations {
		if inputs != nil && len(inputs[i]) > 0 && !op.StaysOnHost(o) {
			top := fmt.Sprintf("files-%d", i)
			o, err = op.WithPayload(o, top), errors.Join(err, files.add(top, inputs[i]))
			s.Files = files.file.Name()
		}
		s.Job.Operations = append(s.Job.Operations, op.Envelope{Operation: o})
	}
	return errors.Join(err, files.close())
}

func addInput(w *tar.Writer, name string, input definition.Input) error {
	stat, err := os.Lstat(input.Path)
	if err != nil {
		return err
	}
	h, err := tar.FileInfoHeader(stat, input.Link)
	if err != nil {
		return err
	}
	*h = tar.Header{Typeflag: h.Typeflag, Name: name, Linkname: h.Linkname, Size: h.Size, Mode: h.Mode, Format: tar.FormatPAX}
	if err := w.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	file, err := os.Open(input.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	// A file that changed since the plan would be another input than the key says.
	_, err = io.Copy(w, verified(file, input))
	return err
}
