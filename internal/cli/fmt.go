package cli

import (
	"bytes"
	"fmt"
	"os"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"herdbook/internal/definition"
)

func (a *app) fmtCommand() *cobra.Command {
	var check bool
	c := &cobra.Command{
		Use:   "fmt [FILE…]",
		Short: "Write definitions in the canonical style and name those that changed",
		RunE: func(c *cobra.Command, files []string) error {
			if len(files) == 0 {
				found, err := definition.Files(a.file)
				if err != nil {
					return err
				}
				files = found
			}
			different := 0
			for _, file := range files {
				changed, err := format(file, !check)
				if err != nil {
					return err
				}
				if changed {
					different++
					fmt.Fprintln(a.Stdout, file)
				}
			}
			if check && different > 0 {
				return fmt.Errorf("%s not in the canonical style; herdbook fmt mends that", count(different, "file"))
			}
			return nil
		},
	}
	c.Flags().BoolVar(&check, "check", false, "change nothing; fail if something would be changed")
	return c
}

// format formats one file and tells whether that made a difference.
func format(file string, write bool) (bool, error) {
	old, err := os.ReadFile(file)
	if err != nil {
		return false, fmt.Errorf("format: %w", err)
	}
	text, err := definition.Format(old, file)
	if err != nil || bytes.Equal(text, old) || !write {
		return err == nil && !bytes.Equal(text, old), err
	}
	if err := renameio.WriteFile(file, text, 0o644, renameio.WithExistingPermissions()); err != nil {
		return true, fmt.Errorf("format: %w", err)
	}
	return true, nil
}
