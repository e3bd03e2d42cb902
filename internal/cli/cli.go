// Package cli is herdbook's command line, one file for each command. It is the
// only place that joins the parts, and where the clock, the environment and the
// terminal enter.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"herdbook/internal/build"
	"herdbook/internal/definition"
	"herdbook/internal/disk"
	"herdbook/internal/machine"
	"herdbook/internal/program"
	"herdbook/internal/repo"
	"herdbook/internal/store"
	"herdbook/internal/workshop"
)

// The exit statuses.
const (
	exitDone        = 0
	exitFailed      = 1   // a build, test or verification failed
	exitWrong       = 2   // the definition or the command line is wrong
	exitLacking     = 3   // this machine lacks something
	exitInterrupted = 130 // everything is cleaned up
)

// World is all that a command may know beside the files.
type World struct {
	Args      []string // without the program's name
	Stdin     *os.File
	Stdout    io.Writer
	Stderr    io.Writer
	LookupEnv func(string) (string, bool)
	Now       func() time.Time
}

// Main runs one command and returns its exit status. The end of ctx is an
// interruption.
func Main(ctx context.Context, w World) int {
	a := &app{World: w}
	root := a.root()
	root.SetArgs(w.Args)
	root.SetIn(w.Stdin)
	root.SetOut(w.Stdout)
	root.SetErr(w.Stderr)
	err := root.ExecuteContext(ctx)
	if err != nil && !errors.Is(err, errDiffer) { // which is told
		a.explain(ctx, err)
	}
	return exitStatus(ctx, err)
}

// usageError is a command line that is wrong.
type usageError struct{ message string }

func (e usageError) Error() string { return e.message }

// errLacking says that this machine lacks something that was told already.
var errLacking = errors.New("this machine lacks what is marked above")

// exitStatus is the one place where an error becomes a number.
func exitStatus(ctx context.Context, err error) int {
	var usage usageError
	var problems *definition.Problems
	var missing *program.MissingError
	switch {
	case err == nil:
		return exitDone
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.As(err, &usage), errors.As(err, &problems), errors.Is(err, definition.ErrNone), errors.Is(err, repo.ErrNoImage):
		return exitWrong
	case errors.As(err, &missing), errors.Is(err, errLacking), errors.Is(err, machine.ErrNoQEMU), errors.Is(err, machine.ErrNoFirmware),
		errors.Is(err, disk.ErrNoQEMUImg), errors.Is(err, workshop.ErrNoAgent):
		return exitLacking
	}
	return exitFailed
}

// explain prints an error for a person: problems with their source lines, the
// last words of what failed, and what to do.
func (a *app) explain(ctx context.Context, err error) {
	if ctx.Err() != nil {
		fmt.Fprintln(a.Stderr, "herdbook: interrupted; everything is cleaned up")
		return
	}
	var problems *definition.Problems
	if errors.As(err, &problems) {
		width, colour := a.terminal()
		if err := problems.Write(a.Stderr, width, colour); err != nil {
			fmt.Fprintln(a.Stderr, "herdbook:", err)
		}
		return
	}
	all := flatten(err)
	for i, e := range all {
		fmt.Fprintln(a.Stderr, "herdbook:", visible(e.Error()))
		var step *build.StepError
		if !errors.As(e, &step) {
			continue
		}
		if len(step.Log) > 0 {
			fmt.Fprintln(a.Stderr, "  its last lines:")
		}
		for _, line := range step.Log {
			fmt.Fprintln(a.Stderr, "  | "+printable(line))
		}
		if step.Screen != "" {
			fmt.Fprintln(a.Stderr, "  what its screen shows:", step.Screen)
		}
		if step.Kept == "" || keptLater(step.Image, all[i+1:]) {
			continue
		}
		what := "its disk"
		if step.Whole {
			what = "the machine as it was"
		}
		fmt.Fprintln(a.Stderr, "  all that it said:", filepath.Join(step.Kept, store.LogName))
		fmt.Fprintf(a.Stderr, "  %s is kept for 24 hours: herdbook shell --failed %s\n", what, step.Image)
	}
}

// keptLater tells whether one of some errors says that a disk of an image is kept: the
// tests of one boot share it.
func keptLater(image string, errs []error) bool {
	for _, e := range errs {
		var step *build.StepError
		if errors.As(e, &step) && step.Image == image && step.Kept != "" {
			return true
		}
	}
	return false
}

// flatten takes joined errors apart, so that each stands on a line of its own.
func flatten(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	// Only what errors.Join made: other errors with several causes are one sentence.
	var texts []string
	for _, e := range joined.Unwrap() {
		texts = append(texts, e.Error())
	}
	if strings.Join(texts, "\n") != err.Error() {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}

// terminal tells the width of standard error and whether it shows colours; 0
// and false if it is no terminal.
func (a *app) terminal() (width uint, colour bool) {
	f, ok := a.Stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil || columns <= 0 {
		columns = 80
	}
	_, plain := a.LookupEnv("NO_COLOR")
	return uint(columns), !plain
}

// arguments turns cobra's complaint about arguments into a usageError.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usageError{fmt.Sprintf("%v; usage: %s", err, c.UseLine())}
		}
		return nil
	}
}

// unknownCommand refuses what is left when no command was found.
func unknownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "see herdbook --help"
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return usageError{fmt.Sprintf("there is no command %q; %s", args[0], hint)}
}
