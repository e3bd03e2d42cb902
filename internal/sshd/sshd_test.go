package sshd

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"herdbook/internal/peer"
)

// site is a server at work, and a client's settings for it.
type site struct {
	dir string
	end func()
}

// serving starts a server on the loopback for a key that ssh-keygen made.
func serving(t *testing.T) *site {
	t.Helper()
	peer.NeedTool(t, "ssh")
	s := &site{dir: t.TempDir()}
	peer.Run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(s.dir, "key"))
	peer.Run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(s.dir, "other"))
	public, err := os.ReadFile(filepath.Join(s.dir, "key.pub"))
	peer.Must(t, err)
	server, err := New(string(public), "GREETING=moo")
	peer.Must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	peer.Must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	s.end = func() {
		l.Close()
		<-done
	}
	t.Cleanup(s.end)
	port := l.Addr().(*net.TCPAddr).Port
	peer.Must(t, os.WriteFile(filepath.Join(s.dir, "known"), fmt.Appendf(nil, "[127.0.0.1]:%d %s\n", port, server.HostKey()), 0o600))
	config := "Host *\n  HostName 127.0.0.1\n  Port %d\n  UserKnownHostsFile %s/known\n  StrictHostKeyChecking yes\n  IdentityFile %s/key\n  IdentitiesOnly yes\n  BatchMode yes\n  LogLevel ERROR\n"
	peer.Must(t, os.WriteFile(filepath.Join(s.dir, "config"), fmt.Appendf(nil, config, port, s.dir, s.dir), 0o600))
	return s
}

func (s *site) ssh(args ...string) *exec.Cmd {
	return exec.Command("ssh", append([]string{"-F", filepath.Join(s.dir, "config")}, args...)...)
}

// run runs a command through OpenSSH's client and returns all that was heard of it.
func (s *site) run(t *testing.T, stdin string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := s.ssh(args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		status = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), status
}

func TestCommandsOfARealClient(t *testing.T) {
	me, err := user.Current()
	peer.Must(t, err)
	s := serving(t)
	large := strings.Repeat("0123456789abcde\n", 1<<16)
	for _, c := range []struct {
		stdin, command string
		stdout, stderr string
		status         int
	}{
		{"", "echo out; echo err >&2; exit 7", "out\n", "err\n", 7},
		{large, "cat", large, "", 0},
		{large, "head -c 5; exit 3", "01234", "", 3}, // what it does not read holds nobody up
		{"", "kill -TERM $$", "", "", 255},
		{"", "id -un; pwd; echo $HOME $USER $GREETING", me.Username + "\n" + me.HomeDir + "\n" + me.HomeDir + " " + me.Username + " moo\n", "", 0},
		{"", "ps -o sid= -p $$ | tr -d ' ' | grep -qx $$", "", "", 0}, // a session of its own
		{"", "test -t 0", "", "", 1},
		{"", "exec no-such-program 2>/dev/null", "", "", 127},
	} {
		stdout, stderr, status := s.run(t, c.stdin, "-l", me.Username, "there", c.command)
		if stdout != c.stdout || stderr != c.stderr || status != c.status {
			t.Errorf("%s: %.200q, %.200q, %d", c.command, stdout, stderr, status)
		}
	}
}

func TestOtherAccounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	s := serving(t)
	nobody, err := user.Lookup("games")
	peer.Must(t, err)
	// Its shell is nologin, which says so and fails.
	if stdout, _, status := s.run(t, "", "-l", nobody.Username, "there", "id -u"); status == 0 || !strings.Contains(stdout, "not available") {
		t.Errorf("an account that must not log in: %q, %d", stdout, status)
	}
	a, err := lookUp("games")
	peer.Must(t, err)
	if fmt.Sprint(a.uid) != nobody.Uid || a.shell != "/usr/sbin/nologin" || a.attributes().Credential.Uid != a.uid {
		t.Errorf("it is taken for %+v", a)
	}
	for _, name := range []string{"no-such-account", "root:x", ""} {
		if _, stderr, status := s.run(t, "", "-l", "x"+name, "there", "true"); status != 255 {
			t.Errorf("the account %q may come in: %s", name, stderr)
		}
	}
}

func TestWhoMayNotComeIn(t *testing.T) {
	s := serving(t)
	for name, args := range map[string][]string{
		"another key":      {"-o", "IdentityFile=none", "-i", filepath.Join(s.dir, "other"), "there", "true"},
		"no key":           {"-o", "IdentityFile=none", "-o", "PubkeyAuthentication=no", "there", "true"},
		"another host key": {"-o", "UserKnownHostsFile=/dev/null", "there", "true"},
		"a terminal":       {"-tt", "there"}, // no shell either
		"a subsystem":      {"-s", "there", "sftp"},
		"forwarding":       {"-W", "127.0.0.1:1", "there"},
	} {
		config, err := os.ReadFile(filepath.Join(s.dir, "config"))
		peer.Must(t, err)
		without := filepath.Join(t.TempDir(), "config")
		if name == "another key" { // those of the file are tried beside those of the command line
			config = bytes.ReplaceAll(config, []byte("  IdentityFile "+s.dir+"/key\n"), nil)
			args = args[2:]
		}
		peer.Must(t, os.WriteFile(without, config, 0o600))
		if out, err := exec.Command("ssh", append([]string{"-F", without}, args...)...).CombinedOutput(); err == nil {
			t.Errorf("%s: it was let in: %s", name, out)
		}
	}
	if _, err := New("no key"); err == nil {
		t.Error("a key that is none was taken")
	}
}

// Sessions share a connection, as Ansible's do, and what a client leaves behind when it
// ends is ended with it; what it took out of its session lives on.
func TestNothingIsLeftBehind(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := serving(t)
	marks := t.TempDir()
	cmd := s.ssh("there", "trap '' HUP; echo $$ >"+marks+"/pid.new; mv "+marks+"/pid.new "+marks+"/pid; sleep 1000; true")
	peer.Must(t, cmd.Start())
	pid := ""
	await(t, "the command", func() bool {
		text, err := os.ReadFile(marks + "/pid")
		pid = strings.TrimSpace(string(text))
		return err == nil
	})
	peer.Must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	await(t, "the end of the command", func() bool {
		_, err := os.Stat("/proc/" + pid)
		return err != nil
	})
	daemon, _, status := s.run(t, "", "there", "setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $!")
	daemon = strings.TrimSpace(daemon)
	if status != 0 {
		t.Fatalf("it could not be started: %d", status)
	}
	busy := s.ssh("there", "sleep 1000")
	peer.Must(t, busy.Start())
	s.end()
	if err := busy.Wait(); err == nil {
		t.Error("a command outlived the server")
	}
	if _, err := os.Stat("/proc/" + daemon); err != nil {
		t.Error("a daemon was ended with its session")
	}
	peer.Run(t, "kill", daemon)
}

// await waits for another process to come so far.
func await(t *testing.T, what string, there func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !there(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come", what)
		}
	}
}
