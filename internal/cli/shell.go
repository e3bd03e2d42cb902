package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/event"
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
	var boot, failed, network bool
	var firmware string
	c := &cobra.Command{
		Use:   "shell IMAGE",
		Short: "Look inside an image, on a throw-away overlay: nothing that is done there stays",
		Long: "Open a shell in the workshop on the newest layer of an image, or, with --boot, its console as it boots by itself.\n" +
			"With --failed it is the disk that the image's last failed step left. Ctrl-] leaves.",
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if err := knownFirmware(machine.Firmware(firmware)); err != nil {
				return err
			}
			s, err := a.openStore()
			if err != nil {
				return err
			}
			backing, err := a.shellDisk(s, args[0], failed)
			if err != nil {
				return err
			}
			return a.shell(c.Context(), s, shellOptions{backing, boot, network, machine.Firmware(firmware)})
		},
	}
	c.Flags().BoolVar(&boot, "boot", false, "boot the image by its own boot loader")
	c.Flags().BoolVar(&failed, "failed", false, "look at what a failed step left")
	c.Flags().BoolVar(&network, "network", false, "give the machine QEMU's user network")
	c.Flags().StringVar(&firmware, "firmware", "bios", "firmware for --boot: bios or uefi")
	return c
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

type shellOptions struct {
	backing  string
	boot     bool
	network  bool
	firmware machine.Firmware
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
	visit := workshop.Visit{
		Backing: o.backing, Scratch: scratch, Accelerator: accelerator, Memory: 1024, CPUs: 2, Network: o.network,
		Input: leaver{a.Stdin, func() { leave(errLeft) }}, Output: a.Stdout, Sink: a.shellNotices(),
	}
	if o.boot {
		visit.Firmware = o.firmware
	} else if visit.Agent, err = workshop.Agent(); err != nil {
		return err
	}
	err = workshop.Look(ctx, visit)
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
		if e.Kind == event.Phase {
			fmt.Fprintf(a.Stderr, "[%s; Ctrl-] leaves]\r\n", e.Text)
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
