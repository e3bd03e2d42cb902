package peer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// S3Bucket is the bucket that S3 has made.
const S3Bucket = "herd"

// S3 starts a real S3 server, versitygw, with an empty bucket in a directory of the
// test, and ends it with the test. The address is what herdbook is told:
// s3://herd?endpoint=http://127.0.0.1:PORT&region=us-east-1; a prefix goes before
// the question mark.
func S3(t testing.TB) (address, accessKey, secretKey string) {
	t.Helper()
	program := filepath.Join(moduleRoot(t), "bin", "versitygw")
	_, err := os.Stat(program)
	Need(t, err == nil, "bin/versitygw is not built; make packages builds it")
	accessKey, secretKey = "herdbook-tests", "not so secret, but long"
	home, data := t.TempDir(), t.TempDir()
	Must(t, os.Mkdir(filepath.Join(data, S3Bucket), 0o755))
	// A socket of its own is free for certain, which no port is. Its path must be short.
	sockets, err := os.MkdirTemp("", "s3-")
	Must(t, err)
	t.Cleanup(func() { Must(t, os.RemoveAll(sockets)) })
	socket := filepath.Join(sockets, "socket")
	c := exec.Command(program, "--port", socket, "--quiet", "posix", data)
	c.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + home, "ROOT_ACCESS_KEY=" + accessKey, "ROOT_SECRET_KEY=" + secretKey}
	c.Dir = home
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	ended := startTied(t, c)
	awaitSocket(t, socket, ended, &said)
	port := relay(t, socket)
	return fmt.Sprintf("s3://%s?endpoint=http://127.0.0.1:%d&region=us-east-1", S3Bucket, port), accessKey, secretKey
}

// startTied starts a program that ends with the test, or with the test's process.
func startTied(t testing.TB, c *exec.Cmd) (ended <-chan struct{}) {
	t.Helper()
	started, done := make(chan error), make(chan struct{})
	go func() {
		defer close(done)
		// The kernel ends the program with the thread that it was started by. Any other
		// may end before, with a test that has mounts of its own.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.Start()
		if started <- err; err == nil {
			_ = c.Wait() // it is killed
		}
	}()
	Must(t, <-started)
	t.Cleanup(func() {
		if err := c.Process.Kill(); !errors.Is(err, os.ErrProcessDone) {
			Must(t, err)
		}
		<-done
	})
	return done
}

// relay leads a port of the loopback to a socket until the test ends.
func relay(t testing.TB, socket string) (port int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	Must(t, err)
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return // its end is Close
			}
			go join(near, socket)
		}
	}()
	t.Cleanup(func() { Must(t, listener.Close()) })
	return listener.Addr().(*net.TCPAddr).Port
}

// join copies both ways until one end is through.
func join(near net.Conn, socket string) {
	defer near.Close()
	far, err := net.Dial("unix", socket)
	if err != nil {
		return // as one that nobody answers
	}
	defer far.Close()
	one := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		go func() {
			_, _ = io.Copy(way[0], way[1]) // a broken connection is the ends' affair
			one <- struct{}{}
		}()
	}
	<-one
}

// moduleRoot is the directory of the module, wherever in it the test stands.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	Must(t, err)
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("the test stands in no module")
		}
		dir = filepath.Dir(dir)
	}
}

// awaitSocket waits until a server listens on a socket; its end is the test's, with what it
// said.
func awaitSocket(t testing.TB, socket string, ended <-chan struct{}, said *bytes.Buffer) {
	t.Helper()
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			Must(t, conn.Close())
			return
		}
		select {
		case <-ended:
			t.Fatalf("the server of %s ended: %s", socket, said)
		case <-time.After(10 * time.Millisecond): // it does not say when it listens
		}
	}
}
