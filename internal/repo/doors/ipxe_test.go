package doors

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"herdbook/internal/machine"
	"herdbook/internal/peer"
	"herdbook/internal/repo"
)

// screen is what a machine shows on its serial console: it says when something has
// come up. It is written to by one goroutine.
type screen struct {
	text  strings.Builder
	await string
	found func() // is called once
	fail  func() // when the script of the menu says that it failed
}

func (s *screen) Write(p []byte) (int, error) {
	n, err := s.text.Write(p)
	if s.await != "" && strings.Contains(s.text.String(), s.await) {
		s.await = ""
		s.found()
	}
	if strings.Contains(s.text.String(), "It could not be booted.") {
		s.fail()
	}
	return n, err
}

// netBoot starts a machine from its network card, by the menu of a repository, and
// returns all that it showed. With keys, it gives them when the menu is there.
func netBoot(t *testing.T, url, keys string, firmware ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	args := []string{
		"-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "512",
		"-netdev", "user,id=n,restrict=no,bootfile=" + url + "/" + MenuName, "-device", "virtio-net-pci,netdev=n,bootindex=1",
		"-serial", "stdio", "-serial", "null",
	}
	c := exec.CommandContext(ctx, "qemu-system-x86_64", append(args, firmware...)...)
	in, err := c.StdinPipe()
	peer.Must(t, err)
	s := &screen{fail: cancel}
	if keys != "" {
		s.await, s.found = "commands to iPXE", func() {
			_, err := io.WriteString(in, keys)
			if err != nil {
				t.Error(err)
			}
		}
	}
	c.Stdout, c.Stderr = s, s
	if err := c.Run(); err != nil {
		t.Fatalf("%v\n%s", err, s.text.String())
	}
	return s.text.String()
}

// TestVMBootsByTheMenu has the iPXE of QEMU's network card boot a kernel and an initrd
// over HTTP: the first of the menu after its time is up, and another one by a key.
func TestVMBootsByTheMenu(t *testing.T) {
	peer.NeedTool(t, "qemu-system-x86_64")
	code, vars, err := machine.Firmwares()
	peer.Need(t, err == nil, "there is no UEFI firmware; make packages installs what the tests need")
	kernel, initrd := peer.Player(t, "cmdline\nsay the initrd is there\npoweroff\n", nil)
	dir := t.TempDir()
	x := repo.Index{}
	for _, image := range []string{"db", "web"} {
		e := repo.Entry{Arch: "x86_64", Name: image + " && shell ${\n", Facts: repo.Facts{Image: image, Cmdline: "root=UUID=" + image + " quiet"}}
		e.Artefacts = []repo.Artefact{artefact("kernel", "images/"+image+" +#%41&;'$.kernel"), artefact("initrd", "images/-"+image+".initrd")}
		e.File = e.Artefacts[0].File
		x, _, err = x.Publish(e, repo.Stable, noon)
		peer.Must(t, err)
	}
	write(t, dir, x, "")
	for _, e := range x.Entries {
		for i, file := range []string{kernel, initrd} {
			path := filepath.Join(dir, e.Artefacts[i].File)
			peer.Must(t, os.Remove(path))
			peer.Must(t, os.Symlink(file, path))
		}
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)
	url := strings.Replace(server.URL, "127.0.0.1", "10.0.2.2", 1)
	own := filepath.Join(t.TempDir(), "vars")
	content, err := os.ReadFile(vars)
	peer.Must(t, err)
	peer.Must(t, os.WriteFile(own, content, 0o600))
	uefi := []string{"-drive", "if=pflash,format=raw,readonly=on,file=" + code, "-drive", "if=pflash,format=raw,file=" + own}
	for name, c := range map[string]struct {
		keys, image string
		firmware    []string
	}{
		"BIOS": {"", "db", nil},
		"UEFI": {"\x1b[B\r", "web", uefi},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := netBoot(t, url, c.keys, c.firmware...)
			for _, want := range []string{
				"Images of this repository", "web ?? shell ?? (web, revision 1)",
				"initrd=initrd root=UUID=" + c.image + " quiet console=tty0 console=ttyS0,115200", "the initrd is there",
			} {
				if !strings.Contains(out, want) {
					t.Errorf("nothing of %q in\n%q", want, out)
				}
			}
		})
	}
}
