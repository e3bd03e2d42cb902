package program

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"herdbook/internal/peer"
)

// A program of the host that fails says why, and one that is fed too little is stopped.
func TestFeed(t *testing.T) {
	peer.NeedTool(t, "mksquashfs", "xz")
	wrong := errors.New("the file system is corrupt")
	out := filepath.Join(t.TempDir(), "out")
	for name, c := range map[string]struct {
		program string
		args    []string
		write   func(io.Writer) error
		want    error
		text    string
	}{
		"its input fails": {"xz", []string{"--stdout"}, func(io.Writer) error { return wrong }, wrong, ""},
		"it fails":        {"mksquashfs", []string{"-", out, "-tar", "-comp", "none-such"}, func(io.Writer) error { return nil }, nil, "none-such"},
		"no space": {"sh", []string{"-c", "echo Write failed because No space left on device >&2; exit 1"}, func(w io.Writer) error {
			_, err := w.Write(make([]byte, 1<<20))
			return err
		}, syscall.ENOSPC, ""},
		"it is not there": {"mksquashfs-that-is-not-there", nil, nil, nil, "is not installed"},
	} {
		err := Command{Name: c.program, Args: c.args}.Feed(t.Context(), io.Discard, c.write)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(wrong)
	err := Command{Name: "xz", Args: []string{"--stdout"}}.Feed(ctx, io.Discard, func(io.Writer) error { return context.Cause(ctx) })
	if !errors.Is(err, wrong) {
		t.Errorf("cancelled: %v", err)
	}
}
