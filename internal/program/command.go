package program

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Command is a program that reads, writes and ends, with its arguments and all of its
// environment: no XZ_OPT or the like of ours changes what it makes.
type Command struct {
	Name        string
	Args        []string
	Environment []string
}

// Full tells whether an error says that no space is left. Programs say it in their own
// words.
func Full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || strings.Contains(err.Error(), "No space left on device")
}

// Run runs it without any input. What it says is in the error if it fails, which wraps
// syscall.ENOSPC where it says that no space is left.
func (c Command) Run(ctx context.Context) error {
	return c.Feed(ctx, nil, func(io.Writer) error { return nil })
}

// Feed is as Run, on what write gives it. Its output goes to out, which may be nil.
func (c Command) Feed(ctx context.Context, out io.Writer, write func(io.Writer) error) error {
	binary, err := Find(c.Name)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	cmd := exec.CommandContext(ctx, binary, c.Args...)
	var said bytes.Buffer
	cmd.Env = append([]string{}, c.Environment...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, &said, 5*time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	wrong := write(in)
	if wrong != nil {
		stop() // it must not take the end of its input for that of a whole one
	}
	wrong = errors.Join(wrong, in.Close())
	ended := cmd.Wait()
	words := strings.TrimSpace(said.String())
	switch {
	case wrong != nil && !errors.Is(wrong, syscall.EPIPE):
		return wrong
	case strings.Contains(words, "No space left"):
		return fmt.Errorf("%s: %w", c.Name, syscall.ENOSPC)
	case ended != nil:
		return fmt.Errorf("%s: %w: %s", c.Name, ended, words)
	}
	return wrong
}
