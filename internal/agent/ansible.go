package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"herdbook/internal/op"
	"herdbook/internal/sshd"
	"herdbook/internal/tunnel"
	"herdbook/internal/wire"
)

// pythons are where Ansible looks for Python in the end.
var pythons = []string{"python3", "/usr/libexec/platform-python", "/usr/bin/python"}

// visit is who comes through the tunnel, and what programs have in their environment
// then.
type visit struct {
	visitor     string
	environment []string
}

// playAnsible lets the host play a playbook: it serves who comes through the tunnel for as
// long as that takes. The server is the agent's own, in memory, so that no account, setting
// or log of the system's has part in it; what Ansible lays down lies on a tmpfs.
func playAnsible(ctx context.Context, o *op.Ansible, v visit, ask func(wire.Ask) (wire.Answer, error)) (err error) {
	server, err := sshd.New(v.visitor, v.environment...)
	if err != nil {
		return err
	}
	if err := mountPublic(op.AnsibleTemporary); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unmountPublic(op.AnsibleTemporary)) }()
	port, err := openPort(wire.TunnelPort)
	if err != nil {
		return err
	}
	listener, err := tunnel.Leave(port)
	if err != nil {
		return errors.Join(err, port.Close())
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(listener)
	}()
	stage, err := json.Marshal(wire.Stage{HostKey: server.HostKey(), Python: hasPython(o.Python)})
	if err != nil {
		return err
	}
	answer, err := ask(wire.Ask{What: wire.AskPlay, Text: string(stage)})
	// The line may be at its end already, as the host has closed it.
	_ = listener.Close()
	<-served
	switch {
	case err != nil:
		return err
	case answer.Error == "":
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return errors.New(answer.Error)
}

func hasPython(given string) bool {
	if given != "" {
		_, err := os.Stat(given)
		return err == nil
	}
	for _, name := range pythons {
		if hasProgram(name) {
			return true
		}
	}
	return false
}

// hasProgram tells whether the system has a program.
func hasProgram(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}

// mountPublic makes a directory in memory where every account can lay down programs.
func mountPublic(dir string) error {
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		err = unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
	}
	if err != nil {
		return fmt.Errorf("make room for modules: %w", err)
	}
	return nil
}

func unmountPublic(dir string) error {
	if err := errors.Join(unix.Unmount(dir, unix.MNT_DETACH), os.Remove(dir)); err != nil {
		return fmt.Errorf("remove the room for modules: %w", err)
	}
	return nil
}
