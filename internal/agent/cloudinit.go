package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"herdbook/internal/cloudinit"
	"herdbook/internal/guest"
	"herdbook/internal/op"
)

// runCloudInit waits for the image's own cloud-init, which has met the step's data on a
// disk at its boot, and judges what it did. If that was good, the image forgets it.
func runCloudInit(ctx context.Context, system *guest.Guest, o *op.CloudInit) (*cloudinit.Outcome, error) {
	if !hasProgram(cloudInit) {
		return nil, errors.New("the image has no cloud-init: install it with a packages step before")
	}
	status, err := system.Runner.Run(ctx, guest.Command{Args: []string{cloudInit, "status", "--wait"}})
	if err != nil {
		return nil, fmt.Errorf("wait for cloud-init: %w", err)
	}
	outcome, err := readOutcome()
	if err == nil {
		err = outcome.Check(status, o.AllowWarnings)
	}
	if err != nil {
		// What its own programs said; where it never ran there is nothing.
		_, tailErr := system.Runner.Run(ctx, guest.Command{Args: []string{"tail", "-n", "30", cloudinit.OutputPath}})
		return nil, errors.Join(err, tailErr)
	}
	return &outcome, forgetCloudInit(ctx, system)
}

const cloudInit = "cloud-init"

// maxLog bounds what is read of a log, in bytes.
const maxLog = 64 << 20

func readOutcome() (cloudinit.Outcome, error) {
	status, err := os.ReadFile(cloudinit.StatusPath)
	if errors.Is(err, fs.ErrNotExist) {
		return cloudinit.Outcome{}, cloudinit.ErrDisabled
	}
	if err != nil {
		return cloudinit.Outcome{}, fmt.Errorf("read cloud-init's status: %w", err)
	}
	log, err := readBounded(cloudinit.LogPath, maxLog)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return cloudinit.Outcome{}, fmt.Errorf("read cloud-init's log: %w", err)
	}
	return cloudinit.Read(status, log)
}

// readBounded reads at most the first n bytes of a file.
func readBounded(name string, n int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, n))
}

// forgetCloudInit makes the image one in which cloud-init never ran: its own clean command
// removes the instance and the logs; the settings of the build's network, which it does
// not, are those files among the usual ones that were written in this boot.
func forgetCloudInit(ctx context.Context, system *guest.Guest) error {
	if err := guest.Must(ctx, system.Runner, guest.Command{Args: []string{cloudInit, "clean", "--logs"}}); err != nil {
		return fmt.Errorf("remove what cloud-init keeps: %w", err)
	}
	var up unix.Sysinfo_t
	if err := unix.Sysinfo(&up); err != nil {
		return fmt.Errorf("ask how long the system is up: %w", err)
	}
	booted := time.Now().Add(-time.Duration(up.Uptime) * time.Second)
	for _, pattern := range cloudinit.Rendered {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, name := range files {
			stat, err := os.Lstat(name)
			if err == nil && stat.ModTime().After(booted) {
				err = os.Remove(name)
			}
			if err != nil {
				return fmt.Errorf("remove what cloud-init wrote for the network: %w", err)
			}
		}
	}
	return nil
}
