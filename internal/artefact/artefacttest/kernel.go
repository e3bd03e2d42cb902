package artefacttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/artefact"
	"herdbook/internal/peer"
)

// Kernel is an image of Debian that has a kernel with modules, by its files; there is
// nothing in them.
func Kernel(t testing.TB, version string, modules ...string) *artefact.Image {
	t.Helper()
	peer.NeedTool(t, "busybox", "mke2fs")
	busybox, err := exec.LookPath("busybox")
	peer.Must(t, err)
	program, err := os.ReadFile(busybox)
	peer.Must(t, err)
	dir := t.TempDir()
	for name, content := range map[string]string{
		"bin/sh": string(program), "etc/hosts": "127.0.0.1 localhost\n", "boot/vmlinuz-" + version: "kernel",
		"etc/os-release": "ID=debian\nVERSION_ID=12\nPRETTY_NAME=\"Small <12>\"\n",
		"lib/modules/" + version + "/modules.dep":     "kernel/" + strings.Join(modules, ".ko:\nkernel/") + ".ko:\n",
		"lib/modules/" + version + "/modules.builtin": "kernel/drivers/scsi/sd_mod.ko\n",
	} {
		path := filepath.Join(dir, name)
		peer.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		peer.Must(t, os.WriteFile(path, []byte(content), 0o644))
	}
	raw := filepath.Join(t.TempDir(), "disk")
	peer.Run(t, "mke2fs", "-q", "-t", "ext4", "-d", dir, raw, "64M")
	return Image(t, raw)
}
