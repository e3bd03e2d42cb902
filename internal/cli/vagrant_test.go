//go:build targets

package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"herdbook/internal/peer"
	"herdbook/internal/workshop"
)

// boxes is an image with a box for each provider. Nothing has taken its host keys away:
// they are there when the boxes are made.
const boxes = `
image "box" {
  disk { size = "2G" }
  bootstrap "mmdebstrap" {
    suite   = "bookworm"
    mirror  = "http://deb.debian.org/debian"
    variant = "minbase"
    include = ["linux-image-amd64", "openssh-server", "sudo", "rsync", "nfs-common", "systemd-resolved", "iproute2"]
  }
  target "vagrant" {}
  target "vagrant" {
    provider = "libvirt"
    cpus     = 2
  }
}
`

// The box for VirtualBox starts in a machine like its own, and the one for libvirt by the
// real vagrant.
func TestVMTargetVagrant(t *testing.T) {
	peer.NeedRoot(t, "libvirt")
	peer.NeedTool(t, "qemu-system-x86_64", "qemu-img", "mmdebstrap", "vagrant", "libvirtd", "virsh", "dnsmasq", "ssh", "rsync")
	_, err := workshop.Agent()
	peer.Need(t, err == nil, "the agent is not built: make build")
	shared, err := filepath.Abs("../../.test/vagrant")
	peer.Must(t, err)
	peer.Must(t, os.MkdirAll(shared, 0o755))
	peer.Must(t, os.WriteFile(filepath.Join(shared, "herdbook.hcl"), []byte(boxes), 0o644))
	r := ranch{dir: shared, store: filepath.Join(shared, "store")}
	if status, said := r.build(t, "box"); status != exitDone {
		t.Fatalf("status %d: %s", status, said)
	}
	t.Run("virtualbox", func(t *testing.T) {
		disk := addBox(t, filepath.Join(shared, "dist", "box.virtualbox.box"))
		said := startAsVirtualBox(t, disk, "sudo id -u; id -u; cat /sys/class/net/e*/device/uevent | grep DRIVER; lsmod | grep -c '^ahci'; cat /etc/machine-id | wc -c")
		if want := "0\n1000\nDRIVER=e1000\n1\n33\n"; said != want {
			t.Errorf("it says %q, want %q", said, want)
		}
	})
	t.Run("libvirt", func(t *testing.T) { upWithLibvirt(t, filepath.Join(shared, "dist", "box.libvirt.box")) })
}

// insecureKey is the private key that every vagrant has.
func insecureKey(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("/usr/share/rubygems-integration/all/gems/vagrant-[0-9]*/keys/vagrant")
	peer.Must(t, err)
	peer.Need(t, len(found) > 0, "vagrant has no insecure key where Debian keeps it")
	text, err := os.ReadFile(found[0])
	peer.Must(t, err)
	path := filepath.Join(t.TempDir(), "key")
	peer.Must(t, os.WriteFile(path, text, 0o600)) // ssh takes no other mode
	return path
}

// addBox adds a box for VirtualBox and returns its disk.
func addBox(t *testing.T, box string) (disk string) {
	t.Helper()
	home := filepath.Join(t.TempDir(), "vagrant")
	t.Setenv("VAGRANT_HOME", home)
	t.Setenv("VAGRANT_CHECKPOINT_DISABLE", "1")
	if said := peer.Run(t, "vagrant", "box", "add", "--name", "herd", box, "--provider", "virtualbox"); !strings.Contains(said, "Successfully added") {
		t.Error(said)
	}
	return filepath.Join(home, "boxes", "herd", "0", "virtualbox", "box-disk001.vmdk")
}

// startAsVirtualBox starts the disk of a box on AHCI, with an E1000 for the network, in a
// machine with the chipset that VirtualBox has by default, and returns what a command says
// there.
func startAsVirtualBox(t *testing.T, disk, command string) (said string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	peer.Must(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	peer.Must(t, listener.Close())
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	console := &matcher{pattern: regexp.MustCompile(`^\S+ login:`), found: make(chan struct{}, 1)}
	m := exec.CommandContext(ctx, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio",
		"-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024", "-snapshot",
		"-device", "ahci,id=sata", "-drive", "if=none,id=disk,format=vmdk,file="+disk, "-device", "ide-hd,bus=sata.0,drive=disk",
		"-netdev", fmt.Sprintf("user,id=nat,restrict=on,hostfwd=tcp:127.0.0.1:%d-:22", port), "-device", "e1000,netdev=nat")
	m.Stdout, m.Stderr = io.MultiWriter(console, t.Output()), t.Output()
	m.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	peer.Must(t, m.Start())
	ended := make(chan error, 1)
	go func() { ended <- m.Wait() }()
	select {
	case <-console.found:
	case err := <-ended:
		t.Fatalf("it ended before its login: %v", err)
	}
	// Its address comes by DHCP, behind the login. Until then QEMU takes connections and
	// drops them.
	key := insecureKey(t)
	for {
		out, err := exec.CommandContext(ctx, "ssh", "-i", key, "-p", fmt.Sprint(port), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
			"-o", "LogLevel=ERROR", "-o", "ConnectTimeout=60", "-o", "BatchMode=yes", "-F", "none", "vagrant@127.0.0.1",
			command).CombinedOutput()
		if said = string(out); err == nil {
			break
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			t.Fatalf("nobody can log in: %s", said)
		}
	}
	cancel()
	<-ended
	return said
}

// upWithLibvirt is the life of a machine under the real vagrant.
func upWithLibvirt(t *testing.T, box string) {
	work, err := os.MkdirTemp("/var/tmp", "vagrant-") // where libvirt's own account can read
	peer.Must(t, err)
	t.Cleanup(func() { peer.Must(t, os.RemoveAll(work)) })
	program, err := filepath.Abs("testdata/vagrant/up.sh")
	peer.Must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", program, box, work)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.CombinedOutput()
	said := strings.ReplaceAll(string(out), "\r", "")
	t.Log(said)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Successfully added box 'herd/box' (v1.0.0)", "A newer version of the box 'herd/box' for provider 'libvirt' is", "Inserting generated public key within guest", "Machine booted and ready!",
		"\n0\nmoo\nkeys 1, insecure 0\n2\nrunning\n",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("vagrant did not say %q", want)
		}
	}
}
