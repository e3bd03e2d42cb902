package target

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

func TestOpenStackRefuses(t *testing.T) {
	less := -1
	for want, change := range map[string]func(*OpenStack){
		"":                                  func(*OpenStack) {},
		`format: "vmdk" is none`:            func(o *OpenStack) { o.Format = "vmdk" },
		`visibility: "all" is none`:         func(o *OpenStack) { o.Visibility = "all" },
		`import: "copy" is none`:            func(o *OpenStack) { o.Import = "copy" },
		`rotate: "delete" is none`:          func(o *OpenStack) { o.Rotate = "delete" },
		`console: "ttyS0; reboot" is no`:    func(o *OpenStack) { o.Console = "ttyS0; reboot" },
		"datasources: there is none":        func(o *OpenStack) { o.Datasources = nil },
		`datasources: "EC2'" is no data`:    func(o *OpenStack) { o.Datasources = []string{"EC2'"} },
		"cloud: ":                           func(o *OpenStack) { o.Cloud = "../x" },
		"upload: the field cloud names one": func(o *OpenStack) { o.Cloud, o.Upload = "lab", true },
		"name: it has 0 bytes":              func(o *OpenStack) { o.Name = "" },
		"members: an image that is private": func(o *OpenStack) { o.Members = []string{"p1"} },
		`members: "a/b" is no ID`:           func(o *OpenStack) { o.Visibility, o.Members = "shared", []string{"a/b"} },
		"tags: a tag has 256":               func(o *OpenStack) { o.Tags = []string{strings.Repeat("x", 256)} },
		`properties: "herdbook_image" is`:   func(o *OpenStack) { o.Properties = map[string]string{"herdbook_image": "x"} },
		`properties: "a/b" is`:              func(o *OpenStack) { o.Properties = map[string]string{"a/b": "x"} },
		"min_disk: -1":                      func(o *OpenStack) { o.MinDisk = -1 },
		"min_ram: -1":                       func(o *OpenStack) { o.MinRAM = -1 },
		"keep: fewer than none":             func(o *OpenStack) { o.Keep = &less },
		"url: web-download needs":           func(o *OpenStack) { o.Import = "web-download" },
		"url: nothing fetches":              func(o *OpenStack) { o.URL = "https://images.example.org/dist" },
	} {
		o := newOpenStack("web").(*OpenStack)
		change(o)
		var got []string
		for _, p := range o.Check() {
			got = append(got, p.Field+": "+p.Message)
		}
		if text := strings.Join(got, "\n"); len(got) > 1 || !strings.HasPrefix(text, want) || want == "" && text != "" {
			t.Errorf("%q, want %q", text, want)
		}
	}
}

func TestOpenStackHasAVariantForEachCloud(t *testing.T) {
	o := newOpenStack("web").(*OpenStack)
	if Name(o) != "openstack" || o.Sends() {
		t.Errorf("without a cloud: %s, %v", Name(o), o.Sends())
	}
	if o.Cloud = "lab"; Name(o) != "openstack-lab" || !o.Sends() {
		t.Errorf("with one: %s, %v", Name(o), o.Sends())
	}
}

// What is done to the image is a script of the shell, and names of packages.
func TestOpenStackAdjustments(t *testing.T) {
	o := newOpenStack("web").(*OpenStack)
	o.QEMUGuestAgent = true
	for _, a := range o.Adjustments() {
		if problems := a.Operation.Check(); len(problems) > 0 {
			t.Errorf("%s: %v", a.Name, problems)
		}
		switch done := a.Operation.(type) {
		case *op.Packages:
			if got := strings.Join(done.Install, " "); got != "cloud-init cloud-guest-utils e2fsprogs qemu-guest-agent" {
				t.Errorf("packages: %s", got)
			}
			if got := done.Elsewhere["dnf"]; got != "cloud-init cloud-utils-growpart e2fsprogs qemu-guest-agent" {
				t.Errorf("with dnf: %s", got)
			}
		case *op.Run:
			for _, line := range []string{"\nDATASOURCES='ConfigDrive, OpenStack, NoCloud, None'\n", "\nCONSOLE='ttyS0,115200'\n", "\nAGENT='yes'\n"} {
				if !strings.Contains(done.Script, line) {
					t.Errorf("%q is not in\n%s", line, done.Script)
				}
			}
			c := exec.Command("sh", "-n")
			c.Stdin = strings.NewReader(done.Script)
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("the shell: %v\n%s", err, out)
			}
		}
	}
}

// The script on a system of the Red Hat family, whose programs are played.
func TestOpenStackScriptOnRedHat(t *testing.T) {
	peer.NeedRoot(t, "chroot")
	peer.NeedTool(t, "busybox")
	root := t.TempDir()
	write := func(name, content string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(root, name)
		peer.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		peer.Must(t, os.WriteFile(path, []byte(content), mode))
	}
	busybox, err := exec.LookPath("busybox")
	peer.Must(t, err)
	program, err := os.ReadFile(busybox)
	peer.Must(t, err)
	write("bin/busybox", string(program), 0o755)
	peer.Run(t, "chroot", root, "/bin/busybox", "--install", "-s", "/bin")
	for _, name := range []string{"dnf", "setfiles", "systemctl", "grubby"} {
		write("usr/bin/"+name, "#!/bin/sh\necho "+name+" \"$@\" >>/log\n", 0o755)
	}
	write("usr/bin/grubby", "#!/bin/sh\necho grubby \"$@\" >>/log\necho console=ttyS0,115200 >>/boot/loader/entries/one.conf\n", 0o755)
	for _, name := range []string{
		"etc/sysconfig/network-scripts/ifcfg-lo", "etc/sysconfig/network-scripts/ifcfg-ens3", "etc/sysconfig/network-scripts/route6-ens3",
		"etc/NetworkManager/system-connections/ens3.nmconnection", "boot/loader/entries/one.conf", "var/lib/cloud/instance/x", "etc/cloud/cloud-init.disabled",
		"usr/lib/systemd/system/cloud-init.service", "etc/machine-id",
	} {
		write(name, "something\n", 0o644)
	}
	write("dev/null", "", 0o666)
	write("etc/selinux/config", "SELINUX=enforcing\nSELINUXTYPE=targeted\n", 0o644)
	o := newOpenStack("web").(*OpenStack)
	write("script", o.script(), 0o755)
	peer.Run(t, "chroot", root, "/bin/sh", "/script")
	log, err := os.ReadFile(filepath.Join(root, "log"))
	peer.Must(t, err)
	// There is an ifup, which busybox brings.
	want := "dnf --quiet clean all\nsystemctl --quiet enable cloud-init.service\n" +
		"grubby --update-kernel=ALL --args=console=tty0 console=ttyS0,115200\nsetfiles -m -F /etc/selinux/targeted/contexts/files/file_contexts /boot /etc /usr /var\n"
	if diff := cmp.Diff(want, string(log)); diff != "" {
		t.Errorf("what it has done (-want +got)\n%s", diff)
	}
	left := peer.Run(t, "sh", "-c", "cd "+root+" && find etc var -type f -size +0 | sort")
	if diff := cmp.Diff("etc/cloud/cloud.cfg.d/99_zz_herdbook.cfg\netc/selinux/config\netc/sysconfig/network-scripts/ifcfg-lo\n", left); diff != "" {
		t.Errorf("what is left (-want +got)\n%s", diff)
	}
	// Without a boot loader that is known it says what to do.
	peer.Must(t, os.Remove(filepath.Join(root, "usr/bin/grubby")))
	peer.Must(t, os.Remove(filepath.Join(root, "boot/loader/entries/one.conf")))
	out, err := exec.Command("chroot", root, "/bin/sh", "/script").CombinedOutput()
	if err == nil || !strings.Contains(string(out), `or say console = ""`) {
		t.Errorf("without a boot loader: %v\n%s", err, out)
	}
	o.Console = ""
	write("script", o.script(), 0o755)
	peer.Run(t, "chroot", root, "/bin/sh", "/script")
}
