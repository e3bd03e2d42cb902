package guest

import (
	"context"
	"fmt"
	"io"
	"slices"

	"herdbook/internal/event"
	"herdbook/internal/op"
)

// Guest is a mounted guest and what operations need beside it.
type Guest struct {
	Root      *Root
	Runner    Runner
	Files     io.ReaderAt // a tar with what copy lays down; nil for none
	FilesSize int64
	Device    string // the disk that the root is on, such as /dev/vda
	AgentPath string // the agent's own program, outside the guest
	Temporary string // a directory of the guest that is on no disk; "" for /tmp, as Prepare mounts it
	Sink      event.Sink
}

// Runner runs programs of the guest.
type Runner interface {
	// Run runs a command in the guest's root and reports its output, line by
	// line. The error is nil if it was run and ended by itself; its exit status
	// (128 + the number of a signal that killed it) is then the first result.
	Run(ctx context.Context, c Command) (int, error)
}

// Command is a program to be run.
type Command struct {
	Args        []string
	Environment []string // beyond the usual one
	Stdin       string
	Good        []int // exit statuses beside 0 that are no failure

	// Swallow takes off a line of standard error what is not to be reported, and
	// says whether that is all of it. It may be nil.
	Swallow func(line string) (rest string, whole bool)
}

// Error is the failure of an operation that has an exit status.
type Error struct {
	Status int
	Err    error
}

// Error implements error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Apply carries out one operation.
func Apply(ctx context.Context, g *Guest, o op.Operation) error {
	switch o := o.(type) {
	case *op.Packages:
		return g.packages(ctx, o)
	case *op.Run:
		return g.run(ctx, o)
	case *op.Boot: // by the agent of the booted system
		return g.run(ctx, &op.Run{Script: o.Script, Environment: o.Environment})
	case *op.File:
		return g.file(o)
	case *op.Copy:
		return g.copy(o)
	case *op.Delete:
		return g.delete(o)
	case *op.User:
		return g.user(ctx, o)
	case *op.Password:
		return g.password(ctx, o)
	case *op.SSHKey:
		return g.sshKey(o)
	case *op.Hostname:
		return g.hostname(o)
	case *op.Timezone:
		return g.timezone(o)
	case *op.Service:
		return g.service(ctx, o)
	case *op.Edit:
		return g.edit(ctx, o)
	case *op.Firstboot:
		return g.firstboot(o)
	case *op.Relabel:
		return g.relabel(ctx, o)
	case *op.Bootloader:
		return g.bootloader(ctx)
	case *op.Agent:
		return g.agent(o)
	}
	return g.applyToFiles(o)
}

// applyToFiles is Apply for the operations on files that run no program.
func (g *Guest) applyToFiles(o op.Operation) error {
	switch o := o.(type) {
	case *op.AppendLine:
		return g.appendLine(o)
	case *op.Chmod:
		return g.chmod(o)
	case *op.Chown:
		return g.chown(o)
	case *op.Duplicate:
		return g.duplicate(o)
	case *op.Move:
		return g.move(o)
	case *op.Link:
		return g.link(o)
	case *op.Mkdir:
		return g.mkdir(o)
	case *op.Touch:
		return g.touch(o)
	case *op.Truncate:
		return g.truncate(o)
	case *op.Scrub:
		return g.scrub(o)
	case *op.TarIn:
		return g.tarIn(o)
	}
	return fmt.Errorf("no way to carry out %T", o)
}

// must runs a command that has to succeed.
func (g *Guest) must(ctx context.Context, args ...string) error {
	return g.mustRun(ctx, Command{Args: args})
}

func (g *Guest) mustRun(ctx context.Context, c Command) error { return Must(ctx, g.Runner, c) }

// Must runs a command that has to succeed. Its failure is an *Error.
func Must(ctx context.Context, runner Runner, c Command) error {
	status, err := runner.Run(ctx, c)
	if err != nil {
		return fmt.Errorf("run %s: %w", c.Args[0], err)
	}
	if status != 0 && !slices.Contains(c.Good, status) {
		return &Error{status, fmt.Errorf("%s ended with status %d", c.Args[0], status)}
	}
	return nil
}

// owned are the attributes of a file of the superuser.
func owned(mode uint32) Attributes { return Attributes{Mode: mode} }
