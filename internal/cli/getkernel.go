package cli

import (
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"herdbook/internal/event"
	"herdbook/internal/filesystem"
	"herdbook/internal/inspection"
)

func (a *app) getKernelCommand() *cobra.Command {
	var f pieceFlags
	var dir, prefix string
	var unversioned bool
	c := &cobra.Command{
		Use:   "get-kernel DISK",
		Short: "Copy the newest kernel of a disk image, and the initrd that goes with it",
		Long:  "Copy the newest kernel of a disk image that has its modules, and the initrd of the same version, and print their paths.\nNo machine is started.",
		Args:  arguments(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			return f.look(args[0], func(s *inspection.System) error {
				kernel, err := s.Newest()
				if err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
				for _, source := range []string{kernel.Image, kernel.Initrd} {
					if source == "" {
						a.notices().Emit(event.Event{Kind: event.Notice, Text: "there is no initrd of kernel " + kernel.Version})
						continue
					}
					name := path.Base(source)
					if unversioned {
						name = strings.Replace(name, "-"+kernel.Version, "", 1)
					}
					if prefix != "" {
						name = prefix + "-" + name
					}
					if err := copyOut(s.Tree(), source, filepath.Join(dir, name)); err != nil {
						return err
					}
					fmt.Fprintln(a.Stdout, filepath.Join(dir, name))
				}
				return nil
			})
		},
	}
	f.add(a, c)
	c.Flags().StringVarP(&dir, "output", "o", ".", "directory to write to")
	c.Flags().StringVar(&prefix, "prefix", "", "begin the names with PREFIX-")
	c.Flags().BoolVar(&unversioned, "unversioned-names", false, "leave the version out of the names")
	return c
}

// copyOut copies a file of a guest.
func copyOut(tree *filesystem.FS, name, to string) (err error) {
	in, err := tree.OpenFile(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	return writeWhole(to, func(w io.Writer) error {
		_, err := in.WriteTo(w)
		return err
	})
}

// writeWhole writes a file whole or not at all.
func writeWhole(path string, write func(io.Writer) error) (err error) {
	out, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, out.Cleanup()) }()
	if err := write(out); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return out.CloseAtomicallyReplace()
}
