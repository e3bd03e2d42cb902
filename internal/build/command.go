package build

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"herdbook/internal/event"
	"herdbook/internal/op"
	"herdbook/internal/program"
)

// commandGrace is how long the output of a command is read after its end.
const commandGrace = 2 * time.Second

// maxSaid bounds a line of a command, in bytes; a longer one is told in pieces.
const maxSaid = 4096

// command runs a program of the user's on the host with the environment that the
// builder has for it, and more, and reports what it says. It ends, with all that it
// has started, with ctx or with herdbook.
func (r *run) command(ctx context.Context, args, more []string, sink event.Sink) error {
	c := exec.Command(args[0], args[1:]...)
	c.Env = slices.Concat(r.Environment, more)
	c.WaitDelay = commandGrace
	out, in := io.Pipe()
	c.Stdout, c.Stderr = in, in
	last, read := "", make(chan struct{})
	go func() {
		defer close(read)
		last = tell(out, r.secrets, sink)
	}()
	err := wait(ctx, c)
	_ = in.Close() // a pipe's always succeeds
	<-read
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		if last != "" {
			return fmt.Errorf("%s on the host: %w: %s", args[0], err, last)
		}
		return fmt.Errorf("%s on the host: %w", args[0], err)
	}
	return nil
}

// wait starts a program and waits for its end, or ends it with all that it has started.
func wait(ctx context.Context, c *exec.Cmd) error {
	started, err := program.Start(c)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		// An error says that it has ended by itself.
		_ = syscall.Kill(-started.PID(), syscall.SIGKILL)
	})
	defer stop()
	<-started.Done()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return started.Err()
}

// tell reports lines, without secrets, and returns the last that is not blank.
func tell(r io.Reader, secrets []string, sink event.Sink) (last string) {
	lines := bufio.NewReaderSize(r, maxSaid)
	for {
		line, _, err := lines.ReadLine()
		if err != nil {
			return last
		}
		text := op.Redact(strings.ToValidUTF8(string(line), "�"), secrets)
		sink.Line(event.Host, text)
		if strings.TrimSpace(text) != "" {
			last = text
		}
	}
}
