package cli

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"herdbook/internal/disk"
	"herdbook/internal/survey"
)

func (a *app) inspectCommand() *cobra.Command {
	var f pieceFlags
	var asJSON, packages bool
	c := &cobra.Command{
		Use:   "inspect DISK",
		Short: "Tell what is on a disk image",
		Long: "Tell what is on a disk image: partitions, file systems, the release, mounts, kernels, accounts, units, where its bytes are,\n" +
			"and with --packages every package. No machine is started.",
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := f.survey(args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return a.writeJSON(s)
			}
			_, err = fmt.Fprint(a.Stdout, s.Text(packages))
			return err
		},
	}
	f.add(a, c)
	c.Flags().BoolVar(&asJSON, "json", false, "all of it as JSON")
	c.Flags().BoolVar(&packages, "packages", false, "list every package")
	return c
}

// writeJSON prints a value for programs.
func (a *app) writeJSON(v any) error {
	e := json.NewEncoder(a.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// survey surveys an image.
func (f *pieceFlags) survey(path string) (s *survey.Survey, err error) {
	piece, err := f.find(path)
	if err != nil {
		return nil, err
	}
	r, err := piece.Read()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	table, err := disk.ReadTable(r, r.Size())
	if err != nil && !errors.Is(err, disk.ErrNoTable) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	system, err := f.system(r.Image)
	if err == nil {
		s, err = survey.Take(survey.Image{Path: path, Format: piece.Format, Size: r.Size()}, table, system)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}
