package sshd

import (
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// session serves one session: it runs one command.
func (a account) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	var running *command
	for request := range requests {
		var asked struct{ Text string }
		ok := false
		switch request.Type {
		case "exec":
			if running == nil && ssh.Unmarshal(request.Payload, &asked) == nil {
				running = a.start(asked.Text, channel)
				ok = running != nil
			}
		case "signal":
			if running != nil && ssh.Unmarshal(request.Payload, &asked) == nil {
				running.signal(unix.SignalNum("SIG" + asked.Text))
				ok = true
			}
		}
		if request.WantReply {
			_ = request.Reply(ok, nil) // a client that is gone shows above
		}
		if request.Type == "exec" && ok {
			go running.wait(channel) // not before the reply: it closes the channel
		}
	}
	// The client has closed the session, which it does after the command's end, or is gone.
	if running != nil {
		running.signal(syscall.SIGKILL)
		<-running.done
	}
}

// command is a command that runs.
type command struct {
	cmd  *exec.Cmd
	mu   sync.Mutex
	over bool          // nobody may be signalled any more: the number can be another's
	done chan struct{} // closed at its end
}

// start starts a command, as the account's shell understands it; nil if it cannot be.
func (a account) start(line string, channel ssh.Channel) *command {
	cmd := exec.Command(a.shell, "-c", line)
	cmd.Args[0] = filepath.Base(a.shell)
	cmd.Dir, cmd.Env = a.dir(), a.environment()
	cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
	// A pipe of our own: the command's end is not to wait for that of its input.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil
	}
	cmd.SysProcAttr = a.attributes()
	if err := cmd.Start(); err != nil {
		_, _ = io.WriteString(channel.Stderr(), err.Error()+"\n") // beside the refusal
		return nil
	}
	c := &command{cmd: cmd, done: make(chan struct{})}
	go func() {
		_, _ = io.Copy(stdin, channel) // until the client has said all, or the command hears no more
		_ = stdin.Close()
	}()
	return c
}

// wait waits for the command's end, which it tells the client.
func (c *command) wait(channel ssh.Channel) {
	defer close(c.done)
	err := c.cmd.Wait() // as OpenSSH's server: until its output is closed, too
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	tell(channel, err)
	_ = channel.Close() // the client may be gone
}

// signal sends a signal to all that the command has started and that has not left its
// session.
func (c *command) signal(number syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over && number != 0 {
		_ = syscall.Kill(-c.cmd.Process.Pid, number) // there may be none of it left
	}
}

// tell tells how a command ended (RFC 4254, 6.10).
func tell(channel ssh.Channel, err error) {
	var exit *exec.ExitError
	status := uint32(0)
	switch {
	case errors.As(err, &exit):
		if how, ok := exit.Sys().(syscall.WaitStatus); ok && how.Signaled() {
			name := unix.SignalName(how.Signal())
			if len(name) > 3 {
				name = name[3:] // without SIG
			}
			_, _ = channel.SendRequest("exit-signal", false, ssh.Marshal(struct {
				Name     string
				Core     bool
				Message  string
				Language string
			}{Name: name}))
			return
		}
		status = uint32(exit.ExitCode())
	case err != nil:
		status = 255
	}
	_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
}
