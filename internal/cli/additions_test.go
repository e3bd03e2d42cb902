//go:build targets

package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"herdbook/internal/peer"
	"herdbook/internal/workshop"
)

// additions are boxes with VirtualBox's guest additions. Debian's stable releases have no
// package of them, and what sid has goes with their C library; the mirror may be slow with
// sid. DKMS is left to the target; what takes long is there before.
const additions = `
image "package" {
  disk { size = "2G" }
  bootstrap "mmdebstrap" {
    suite   = "trixie"
    mirror  = "http://deb.debian.org/debian"
    variant = "minbase"
    include = ["linux-image-amd64", "openssh-server", "sudo", "rsync", "nfs-common", "systemd-resolved", "iproute2", "pciutils"]
  }
  step "file" "sid" {
    path    = "/etc/apt/sources.list.d/sid.list"
    content = "deb [check-valid-until=no signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian sid contrib\n"
  }
  target "vagrant" { guest_additions = "package" }
}
image "iso" {
  disk { size = "3G" }
  bootstrap "mmdebstrap" {
    suite   = "bookworm"
    mirror  = "http://deb.debian.org/debian"
    variant = "minbase"
    include = [
      "linux-image-amd64", "openssh-server", "sudo", "rsync", "nfs-common", "systemd-resolved", "iproute2",
      "linux-headers-amd64", "make", "gcc", "libc6-dev", "perl",
    ]
  }
  target "vagrant" {
    timeout             = "1h" # to compile two modules, emulated
    guest_additions     = "iso"
    guest_additions_iso = "medium/usr/share/virtualbox/VBoxGuestAdditions.iso"
  }
}
`

// TestVMTargetGuestAdditions installs the guest additions both ways, those of the ISO built
// for the kernel, and starts the boxes. There is no VirtualBox around them: the modules are
// loaded, and those of the ISO say so.
func TestVMTargetGuestAdditions(t *testing.T) {
	peer.NeedTool(t, "qemu-system-x86_64", "qemu-img", "mmdebstrap", "tar", "ssh")
	_, err := workshop.Agent()
	peer.Need(t, err == nil, "the agent is not built: make build")
	dir, err := filepath.Abs("../../.test/additions")
	peer.Must(t, err)
	peer.Must(t, os.MkdirAll(dir, 0o755))
	medium := filepath.Join(dir, "medium")
	peer.Must(t, os.RemoveAll(medium))
	peer.Run(t, "mmdebstrap", "--quiet", "--variant=extract", "--components=non-free", "--include=virtualbox-guest-additions-iso",
		"bookworm", medium, "http://deb.debian.org/debian")
	peer.Must(t, os.WriteFile(filepath.Join(dir, "herdbook.hcl"), []byte(additions), 0o644))
	r := ranch{dir: dir, store: filepath.Join(dir, "store")}
	for image, c := range map[string]struct{ command, want string }{
		"package": {
			"sudo modinfo -n vboxguest vboxsf; sudo modprobe vboxsf && lsmod | grep -o ^vboxsf; sudo VBoxService --version; " +
				"test -x /usr/sbin/mount.vboxsf; systemctl is-enabled virtualbox-guest-utils; sudo systemctl is-system-running --wait",
			`^/lib/modules/6\S*/kernel/drivers/virt/vboxguest/vboxguest\.ko\S*
/lib/modules/6\S*/kernel/fs/vboxsf/vboxsf\.ko\S*
vboxsf
7\.\S+
enabled
running
$`,
		},
		"iso": {
			"sudo modinfo -n vboxguest vboxsf; sudo modinfo -F version vboxsf; sudo modprobe vboxsf; sudo dmesg | grep -o 'vboxguest: PCI device not found'; sudo VBoxService --version; " +
				"test -x /usr/sbin/mount.vboxsf; ls /var/lib/dkms/mok.*; ls /var/tmp | grep -v ^systemd-private-; systemctl is-enabled vboxservice; sudo systemctl is-system-running --wait",
			`^/lib/modules/6\S*/updates/dkms/vboxguest\.ko\S*
/lib/modules/6\S*/updates/dkms/vboxsf\.ko\S*
(7\.\S+) r(\d+)
modprobe: ERROR: could not insert 'vboxsf': No such device
vboxguest: PCI device not found
7\.\S+
ls: cannot access '/var/lib/dkms/mok\.\*': No such file or directory
enabled
running
$`,
		},
	} {
		t.Run(image, func(t *testing.T) {
			if status, said := r.build(t, image); status != exitDone {
				t.Fatalf("status %d: %s", status, said)
			}
			box := t.TempDir()
			peer.Run(t, "tar", "-C", box, "-xf", filepath.Join(dir, "dist", image+".virtualbox.box"))
			if said := startAsVirtualBox(t, filepath.Join(box, "box-disk001.vmdk"), c.command); !regexp.MustCompile(c.want).MatchString(said) {
				t.Errorf("it says %q, want %s", said, c.want)
			}
		})
	}
}
