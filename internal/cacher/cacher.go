// Package cacher runs a caching proxy for archives of packages, apt-cacher-ng, for
// as long as installers need it: what one of them fetched is there for the next one.
// Whom it serves trusts it with nothing, since archives are signed and apt looks.
package cacher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"herdbook/internal/program"
)

// proxy is the program that does the work.
const proxy = "apt-cacher-ng"

// ErrInUse says that another process has a proxy on the same directory.
var ErrInUse = errors.New("another herdbook uses its cache")

// startLimit bounds the start of the proxy, which takes a hundredth of it.
const startLimit = 10 * time.Second

// Cacher is a proxy that runs.
type Cacher struct {
	lock     *flock.Flock
	run      string // directory of its sockets, settings and logs, for as long as it runs
	process  *program.Process
	listener net.Listener
	serving  sync.WaitGroup
	ending   chan struct{} // closed first: the program, asked to end, may wait for its connections
}

// Start starts a proxy that keeps what it fetches below dir, which is made if
// need be. Close must be called. The error is a *program.MissingError where there is
// no such program, and wraps ErrInUse where dir has a proxy already.
func Start(ctx context.Context, dir string) (*Cacher, error) {
	binary, err := program.Find(proxy)
	if err != nil {
		return nil, err
	}
	c := &Cacher{ending: make(chan struct{}), lock: flock.New(filepath.Join(dir, "lock"))}
	if err := c.start(ctx, binary, dir); err != nil {
		return nil, errors.Join(fmt.Errorf("start the packages' proxy: %w", err), c.Close())
	}
	return c, nil
}

func (c *Cacher) start(ctx context.Context, binary, dir string) (err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "cache"), 0o755); err != nil {
		return err
	}
	free, err := c.lock.TryLock()
	if err == nil && !free {
		err = ErrInUse
	}
	if err != nil {
		return err
	}
	// The path of a socket has 107 bytes at most, that of dir may have more.
	if c.run, err = os.MkdirTemp("", "herdbook-packages-*"); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.run, "acng.conf"), []byte(settings(filepath.Join(dir, "cache"), c.run)), 0o600); err != nil {
		return err
	}
	if err := c.launch(ctx, binary); err != nil {
		return err
	}
	if c.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	c.serving.Go(c.serve)
	return nil
}

// settings makes a proxy of herdbook's own of the program, whatever those of the
// host say: it speaks on a socket in run, and on no network but the loopback, if
// there. Packages never change under their names; what is not known to it is
// fetched and looked at anew each time, rather than refused.
func settings(cache, run string) string {
	return strings.Join([]string{
		"CacheDir: " + cache,
		"LogDir: " + run,
		"SocketPath: " + filepath.Join(run, socketName),
		"BindAddress: 127.0.0.1",
		"SupportDir: /usr/lib/apt-cacher-ng",
		"ForeGround: 1",
		"ReportPage:", // no page that could change its cache
		"AllowUserPorts: 0",
		"PassThroughPattern: .*",
		`SPfilePatternEx: \.(deb|udeb)$`,
		"VfilePatternEx: .*",
	}, "\n") + "\n"
}

const (
	socketName = "socket"
	readyName  = "ready"
	saidName   = "said"
)

// launch starts the program and waits until it says that it is ready, as to
// systemd: sd_notify(3).
func (c *Cacher) launch(ctx context.Context, binary string) error {
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: filepath.Join(c.run, readyName)})
	if err != nil {
		return err
	}
	defer ready.Close() // nothing was written to it
	said, err := os.Create(filepath.Join(c.run, saidName))
	if err != nil {
		return err
	}
	cmd := exec.Command(binary, "-c", c.run)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "NOTIFY_SOCKET=" + ready.LocalAddr().String()}
	cmd.Stdout, cmd.Stderr = said, said
	c.process, err = program.Start(cmd)
	if err := errors.Join(err, said.Close()); err != nil {
		return err
	}
	answer := make(chan error, 1)
	go func() {
		message := make([]byte, 256)
		n, err := ready.Read(message) // until it is closed
		if err == nil && !strings.Contains(string(message[:n]), "READY=1") {
			err = fmt.Errorf("%s says %q", proxy, message[:n])
		}
		answer <- err
	}()
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	select {
	case err = <-answer:
	case <-c.process.Done():
		err = fmt.Errorf("%s has ended: %w", proxy, c.process.Err())
	case <-limit.C:
		err = fmt.Errorf("%s was not ready after %v", proxy, startLimit)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("%w%s", err, c.said())
	}
	return nil
}

// endLimit is how long the program may take to end in order.
const endLimit = 10 * time.Second

// stop ends the program. To be killed costs its cache no more than what it was
// fetching.
func (c *Cacher) stop() {
	c.process.Terminate()
	limit := time.AfterFunc(endLimit, c.process.Kill)
	defer limit.Stop()
	<-c.process.Done()
}

// said is what the program wrote, as a part of an error; the end of it.
func (c *Cacher) said() string {
	const most = 1024
	text, err := os.ReadFile(filepath.Join(c.run, saidName))
	if err != nil || len(text) == 0 {
		return ""
	}
	return ": " + strings.TrimSpace(string(text[max(0, len(text)-most):]))
}

// Port is where it listens, on the loopback.
func (c *Cacher) Port() int { return c.listener.Addr().(*net.TCPAddr).Port }

// Close ends the proxy, waits for its end and removes all but its cache.
func (c *Cacher) Close() (err error) {
	close(c.ending)
	if c.listener != nil {
		err = c.listener.Close()
	}
	if c.process != nil {
		c.stop()
	}
	c.serving.Wait()
	if c.run != "" {
		err = errors.Join(err, os.RemoveAll(c.run))
	}
	return errors.Join(err, c.lock.Unlock())
}
