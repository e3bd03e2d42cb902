package cli

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"herdbook/internal/archive"
	"herdbook/internal/filesystem"
	"herdbook/internal/inspection"
)

func (a *app) tarOutCommand() *cobra.Command {
	var f pieceFlags
	c := &cobra.Command{
		Use:   "tar-out DISK DIRECTORY [TARFILE]",
		Short: "Write a directory of a disk image as a tar",
		Long: "Write all that is below a directory of a disk image as a tar, to a file or to standard output: owners, modes, times, links,\n" +
			"device nodes and extended attributes as they are. No machine is started.",
		Args: arguments(cobra.RangeArgs(2, 3)),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := inGuest(args[1])
			if err != nil {
				return err
			}
			return f.look(args[0], func(s *inspection.System) error {
				sub, err := s.Tree().Sub(dir)
				if err != nil {
					return err
				}
				if len(args) == 3 && args[2] != "-" {
					return writeWhole(args[2], func(w io.Writer) error { return tarOut(c.Context(), w, sub) })
				}
				if out, ok := a.Stdout.(*os.File); ok && term.IsTerminal(int(out.Fd())) {
					return usageError{"a tar is nothing for a terminal: name a file"}
				}
				return tarOut(c.Context(), a.Stdout, sub)
			})
		},
	}
	f.add(a, c)
	return c
}

func tarOut(ctx context.Context, w io.Writer, tree *filesystem.FS) error {
	out := archive.NewWriter(w, nil)
	return errors.Join(out.Tree(ctx, tree), out.Close())
}
