package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"herdbook/internal/event"
)

// stateName is what the descriptor of a state is called towards QEMU.
const stateName = "state"

// maxBandwidth takes QEMU's brake off, in bytes per second: the other end is here.
const maxBandwidth = 1 << 40

// Save stops the machine for good and writes its memory and the state of its devices
// to w, in QEMU's own form: several hundred bytes for each megabyte that the guest has
// not touched, all of the others. What its disks hold is on them when it returns. The
// machine must be ended then.
func (m *Machine) Save(ctx context.Context, w io.Writer) error {
	m.qmp.pause()
	_, err := m.qmp.execute(ctx, "stop")
	if err == nil {
		err = m.transfer(ctx, "migrate", func(state net.Conn) error {
			_, err := io.Copy(w, state)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("save the machine: %w", err)
	}
	return nil
}

// Resume starts a machine that Save has saved: with the same Spec, and disks that hold the
// same. It goes on where it was; nothing of what was said on its lines is said again. The
// state is trusted: it must come from where nobody else could write.
func Resume(ctx context.Context, s Spec, state io.Reader, sink event.Sink) (*Machine, error) {
	s.incoming = true
	m, err := Start(ctx, s, sink)
	if err != nil {
		return nil, err
	}
	err = m.transfer(ctx, "migrate-incoming", func(conn net.Conn) error {
		_, err := io.Copy(conn, state)
		return errors.Join(err, conn.Close()) // which is its end
	})
	if err == nil {
		_, err = m.qmp.execute(ctx, "cont")
	}
	if err == nil {
		return m, nil
	}
	if errors.Is(err, errLost) { // QEMU says on its way out what it does not like
		err = m.Wait(ctx)
	}
	return nil, errors.Join(fmt.Errorf("resume the machine: %w", err), m.Close())
}

// transfer gives QEMU one end of a socket for a state, and the other one to carry, and
// returns when both are done.
func (m *Machine) transfer(ctx context.Context, command string, carry func(net.Conn) error) error {
	p, err := socketPair()
	if err != nil {
		return err
	}
	err = errors.Join(m.prepareTransfer(ctx, p.theirs), p.theirs.Close()) // QEMU has a copy
	if err == nil {
		_, err = m.qmp.call(ctx, command, map[string]any{"uri": "fd:" + stateName})
	}
	if err != nil {
		return errors.Join(err, p.ours.Close())
	}
	// Whoever gives up closes the socket, and the other one ends.
	stop := context.AfterFunc(ctx, func() { p.ours.Close() })
	defer stop()
	carried := make(chan error, 1)
	go func() {
		err := carry(p.ours)
		if err != nil {
			p.ours.Close() // QEMU need not fill it any more
		}
		carried <- err
	}()
	moved := m.qmp.moved(ctx)
	if moved != nil {
		p.ours.Close()
	}
	err = <-carried
	p.ours.Close() // at the latest: its carrier may have done so
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && !hungUp(err):
		return err // and what QEMU says is only what came of it
	case moved != nil:
		return moved
	}
	return err
}

// hungUp tells whether an error says only that the other end is gone.
func hungUp(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// prepareTransfer hands over the descriptor, and has QEMU report.
func (m *Machine) prepareTransfer(ctx context.Context, theirs *os.File) error {
	if err := m.qmp.pass(ctx, stateName, theirs); err != nil {
		return err
	}
	_, err := m.qmp.call(ctx, "migrate-set-capabilities", map[string]any{
		"capabilities": []map[string]any{{"capability": "events", "state": true}},
	})
	if err == nil {
		_, err = m.qmp.call(ctx, "migrate-set-parameters", map[string]any{"max-bandwidth": int64(maxBandwidth)})
	}
	return err
}

// SysRq gives the guest's kernel an order by a break and a key on its serial console
// (Documentation/admin-guide/sysrq.rst), which it takes if it has its console there and
// its setting kernel.sysrq allows it.
func (m *Machine) SysRq(ctx context.Context, key byte) error {
	_, err := m.qmp.call(ctx, "chardev-send-break", map[string]any{"id": "console"})
	if err == nil {
		_, err = m.console.conn.Write([]byte{key})
	}
	if err != nil {
		return fmt.Errorf("send SysRq %q: %w", key, err)
	}
	return nil
}
