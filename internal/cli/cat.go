package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"herdbook/internal/inspection"
)

func (a *app) catCommand() *cobra.Command {
	var f pieceFlags
	c := &cobra.Command{
		Use:   "cat DISK FILE…",
		Short: "Print files of a disk image",
		Long:  "Print files of a disk image, by their paths in the guest. Links are followed within the guest. No machine is started.",
		Args:  arguments(cobra.MinimumNArgs(2)),
		RunE: func(_ *cobra.Command, args []string) error {
			return f.look(args[0], func(s *inspection.System) error {
				for _, name := range args[1:] {
					if err := a.cat(s, name); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	f.add(a, c)
	return c
}

func (a *app) cat(s *inspection.System, name string) error {
	name, err := inGuest(name)
	if err != nil {
		return err
	}
	file, err := s.Tree().OpenFile(name)
	if err != nil {
		return err
	}
	_, err = file.WriteTo(a.Stdout)
	return errors.Join(err, file.Close())
}
