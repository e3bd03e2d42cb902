package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"herdbook/internal/event"
	"herdbook/internal/junit"
)

// reporting lets a report hear what sink hears. The function that it returns writes
// the report, whole or not at all, whatever became of the build; without a file there
// is none.
func (a *app) reporting(file string, sink event.Sink) (event.Sink, func() error, error) {
	if file == "" {
		return sink, func() error { return nil }, nil
	}
	// An hour of tests is too late to learn that there is no such directory.
	if stat, err := os.Stat(filepath.Dir(file)); err != nil || !stat.IsDir() {
		return nil, nil, usageError{fmt.Sprintf("--junit=%s: there is no directory %s", file, filepath.Dir(file))}
	}
	if err := writable(file); err != nil {
		return nil, nil, usageError{fmt.Sprintf("--junit=%s: it cannot be written: %v", file, err)}
	}
	report := &junit.Report{}
	return event.Tee(report.Sink, sink), func() error {
		text, err := report.Format()
		if err == nil {
			err = renameio.WriteFile(file, text, 0o644, renameio.WithTempDir(filepath.Dir(file)))
		}
		if err != nil {
			return fmt.Errorf("write the results of the tests to %s: %w", file, err)
		}
		return nil
	}, nil
}

// writable tries to write a file, as it will be written, and leaves what is there. A
// device such as /dev/stdout would be replaced by a file.
func writable(file string) error {
	if stat, err := os.Stat(file); err == nil && !stat.Mode().IsRegular() {
		return errors.New("it is no regular file")
	}
	trial, err := renameio.TempFile(filepath.Dir(file), file)
	if err != nil {
		return err
	}
	return trial.Cleanup()
}
