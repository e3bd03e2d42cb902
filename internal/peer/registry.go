package peer

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Registry starts a real registry of container images, docker-registry, in a directory of
// the test, and ends it with the test. It is told as 127.0.0.1:PORT.
func Registry(t testing.TB) (address string) {
	t.Helper()
	NeedTool(t, "docker-registry")
	// A socket of its own is free for certain, which no port is. Its path must be short.
	dir, err := os.MkdirTemp("", "registry-")
	Must(t, err)
	t.Cleanup(func() { Must(t, os.RemoveAll(dir)) })
	socket, settings := filepath.Join(dir, "socket"), filepath.Join(dir, "settings.yml")
	Must(t, os.WriteFile(settings, fmt.Appendf(nil, `version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %s/data}, delete: {enabled: true}}
http: {net: unix, addr: %s}
`, dir, socket), 0o644))
	c := exec.Command("docker-registry", "serve", settings)
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	ended := startTied(t, c)
	awaitSocket(t, socket, ended, &said)
	return fmt.Sprintf("127.0.0.1:%d", relay(t, socket))
}
