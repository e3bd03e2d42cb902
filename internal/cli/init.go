package cli

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"herdbook/internal/definition"
	"herdbook/internal/signed"
)

//go:embed starter/herdbook.hcl
var starter []byte

func (a *app) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init [DIRECTORY]",
		Short: "Begin: write a definition that works and a key to sign images with",
		Args:  arguments(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "."
			if len(args) == 1 {
				dir = args[0]
			}
			return a.begin(dir)
		},
	}
}

// begin writes the starter into a directory. What is there already stays.
func (a *app) begin(dir string) error {
	key, err := signed.NewKey("herdbook images", a.Now())
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		text []byte
		mode fs.FileMode
	}{
		{definition.DefaultFile, starter, 0o644},
		{"keys/images.asc", key, 0o600},
		{".gitignore", []byte("/keys/\n/repo/\n/dist/\n"), 0o644},
	} {
		path := filepath.Join(dir, f.name)
		written, err := writeNew(path, f.text, f.mode)
		if err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		state := "is there already"
		if written {
			state = "written"
		}
		fmt.Fprintln(a.Stdout, path, state)
	}
	return nil
}

// writeNew writes a file that is not there yet.
func writeNew(path string, text []byte, mode fs.FileMode) (bool, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = f.Write(text)
	return true, errors.Join(err, f.Sync(), f.Close())
}
