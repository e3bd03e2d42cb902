package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"herdbook/internal/build"
	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/event"
	"herdbook/internal/gateway"
	"herdbook/internal/machine"
	"herdbook/internal/plan"
	"herdbook/internal/store"
	"herdbook/internal/workshop"
)

// leaveKey ends a shell, as telnet's escape does: Ctrl-].
const leaveKey = 0x1d

// errLeft is the cause of a machine that the user left.
var errLeft = errors.New("left with Ctrl-]")

func (a *app) shellCommand() *cobra.Command {
	var o shellOptions
	var failed bool
	var network networkFlags
	var firmware string
	c := &cobra.Command{
		Use:   "shell IMAGE",
		Short: "Look inside an image, on a throw-away overlay: nothing that is done there stays",
		Long: "Open a shell in the workshop on the newest layer of an image, or, with --boot, in the image booted by itself.\n" +
			"With --failed it is what the image's last failed step left: the booted machine as it was then, or the disk.\n" +
			"--console shows a booted machine's own console instead. Ctrl-] leaves.",
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if err := errors.Join(knownFirmware(machine.Firmware(firmware)), o.check(failed), network.check()); err != nil {
				return err
			}
			if o.boot {
				o.firmware = machine.Firmware(firmware)
			}
			s, err := a.openStore()
			if err != nil {
				return err
			}
			if o.backing, err = a.shellDisk(s, args[0], failed); err != nil {
				return err
			}
			if failed {
				o.kept = build.KeptMachine(filepath.Dir(o.backing))
			}
			o.network = network.rules()
			return a.shell(c.Context(), s, o)
		},
	}
	c.Flags().BoolVar(&o.boot, "boot", false, "boot the image by its own boot loader")
	c.Flags().BoolVar(&o.console, "console", false, "with --boot or --failed: the machine's own console instead of a shell")
	c.Flags().BoolVar(&failed, "failed", false, "look at what a failed step left")
	network.add(c)
	c.Flags().StringVar(&firmware, "firmware", "bios", "firmware for --boot: bios or uefi")
	return c
}

type shellOptions struct {
	backing  string
	kept     string // directory of what a failed step left of its machine; "": none
	boot     bool
	console  bool
	network  *gateway.Rules
	firmware machine.Firmware // to boot by; "": no boot
}

// check refuses what the flags do not allow.
func (o shellOptions) check(failed bool) error {
	if o.console && !o.boot && !failed {
		return usageError{"--console: only a booted machine has one; add --boot, or --failed"}
	}
	return nil
}

// knownFirmware refuses a --firmware that machines do not have.
func knownFirmware(f machine.Firmware) error {
	if f != machine.BIOS && f != machine.UEFI {
		return usageError{fmt.Sprintf("--firmware=%s: want bios or uefi", f)}
	}
	return nil
}

// shellDisk finds the disk to look at: what failed, or the newest layer that is
// there.
func (a *app) shellDisk(s *store.Store, image string, failed bool) (string, error) {
	if failed {
		path, ok := s.Failed(image)
		if !ok {
			return "", fmt.Errorf("no failed step of the image %q is kept; that is done for 24 hours", image)
		}
		return path, nil
	}
	def, err := a.parse(image)
	if err != nil {
		return "", err
	}
	if def, err = a.located(def, a.notices()); err != nil {
		return "", err
	}
	top, err := newest(s, def, image)
	return s.DiskPath(top), err
}

// newest is the highest layer of an image that is in the store, by what is
// pinned now.
func newest(s *store.Store, def *definition.Definition, image string) (digest.Digest, error) {
	lock, err := readLock(def)
	if err != nil {
		return "", err
	}
	p, err := plan.New(def, lock)
	if err != nil {
		return "", fmt.Errorf("%w; herdbook build does that", err)
	}
	if p, err = p.With(image); err != nil {
		return "", err
	}
	top := digest.Digest("")
	states := p.Resolve(find(s))
	for _, i := range p.Images {
		for _, state := range states[i.Name] {
			if state.Layer != "" {
				top = state.Layer
			}
		}
	}
	if top == "" {
		return "", fmt.Errorf("no layer of the image %q is there; herdbook build %s makes them", image, image)
	}
	return top, nil
}

// shell opens the shell on a terminal.
func (a *app) shell(ctx context.Context, s *store.Store, o shellOptions) (err error) {
	done, err := s.Use(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	accelerator, err := a.accelerator(s, a.notices())(ctx)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "herdbook-shell-")
	if err != nil {
		return fmt.Errorf("make scratch directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	restore, err := rawTerminal(a.Stdin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restore()) }()
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	agent, err := workshop.Agent()
	if err != nil {
		return err
	}
	terminal, _ := a.LookupEnv("TERM")
	err = workshop.Look(ctx, workshop.Visit{
		Backing: o.backing, Kept: o.kept, Firmware: o.firmware, Console: o.console, Scratch: scratch, Agent: agent,
		Accelerator: accelerator, Memory: 1024, CPUs: 2, Network: o.network,
		Input: leaver{a.Stdin, func() { leave(errLeft) }}, Output: a.Stdout, Terminal: terminal, Window: a.window(), Sink: a.shellNotices(),
	})
	if errors.Is(context.Cause(ctx), errLeft) {
		fmt.Fprint(a.Stderr, "\r\n") // the guest's last line has no end
		return nil
	}
	return err
}

// shellNotices says what happens before the shell is there; in a raw terminal a
// line needs its CR.
func (a *app) shellNotices() event.Sink {
	return func(e event.Event) {
		switch e.Kind {
		case event.Phase:
			fmt.Fprintf(a.Stderr, "[%s; Ctrl-] leaves]\r\n", visible(e.Text))
		case event.Notice:
			fmt.Fprintf(a.Stderr, "[%s]\r\n", visible(e.Text))
		}
	}
}

// window returns a function that waits until the size of the user's window is another one
// than it had, and returns it; nil if there is no window.
func (a *app) window() func(context.Context, string) (string, error) {
	fd := int(a.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return nil
	}
	return func(ctx context.Context, had string) (string, error) {
		changed := make(chan os.Signal, 1)
		signal.Notify(changed, syscall.SIGWINCH)
		defer signal.Stop(changed)
		for {
			columns, rows, err := term.GetSize(fd)
			if size := fmt.Sprintf("%d %d", rows, columns); err != nil || size != had {
				return size, err
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return "", context.Cause(ctx)
			}
		}
	}
}

// rawTerminal passes every key on to the guest. Without a terminal, as in a
// script, bytes are passed as they are.
func rawTerminal(f *os.File) (restore func() error, err error) {
	fd := int(f.Fd())
	if !term.IsTerminal(fd) {
		return func() error { return nil }, nil
	}
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("set up the terminal: %w", err)
	}
	return func() error { return term.Restore(fd, state) }, nil
}

// leaver passes on what is typed until the key that leaves.
type leaver struct {
	r     io.Reader
	leave func()
}

func (l leaver) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if i := bytes.IndexByte(p[:n], leaveKey); i >= 0 {
		l.leave()
		return i, io.EOF
	}
	return n, err
}
