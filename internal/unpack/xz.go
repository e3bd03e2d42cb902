package unpack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// ErrNoXZ says that xz is not installed.
var ErrNoXZ = errors.New("xz is not installed: apt-get install xz-utils")

// xz is the program at work: in Go it would take many times as long.
type xz struct {
	io.Reader // what it prints
	cmd       *exec.Cmd
	said      bytes.Buffer
	stop      context.CancelFunc
	ended     bool
	err       error
}

func newXZ(ctx context.Context, r io.Reader) (*xz, error) {
	path, err := exec.LookPath("xz")
	if err != nil {
		return nil, ErrNoXZ
	}
	ctx, stop := context.WithCancel(ctx)
	x := &xz{stop: stop}
	x.cmd = exec.CommandContext(ctx, path, "--decompress", "--stdout", "--threads=0", "--memlimit-decompress=2GiB")
	x.cmd.Env = []string{} // such as XZ_OPT
	x.cmd.Stdin, x.cmd.Stderr = r, &x.said
	x.cmd.WaitDelay = 5 * time.Second
	if x.Reader, err = x.cmd.StdoutPipe(); err == nil {
		err = x.cmd.Start()
	}
	if err != nil {
		stop()
		return nil, err
	}
	return x, nil
}

// Read implements io.Reader. Nothing more to read is the end only if xz ends well.
func (x *xz) Read(p []byte) (int, error) {
	if !x.ended {
		if n, err := x.Reader.Read(p); n > 0 || err == nil {
			return n, nil
		}
	}
	if err := x.wait(); err != nil {
		return 0, err
	}
	return 0, io.EOF
}

func (x *xz) wait() error {
	if !x.ended {
		x.ended = true
		if err := x.cmd.Wait(); err != nil {
			x.err = fmt.Errorf("%w: %s", err, strings.TrimSpace(x.said.String()))
		}
		x.stop()
	}
	return x.err
}

// Close ends xz, if it has not ended, and what feeds it.
func (x *xz) Close() error {
	if !x.ended {
		x.stop()
		_ = x.wait() // it was killed
	}
	return nil
}
