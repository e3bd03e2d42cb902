package build

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"herdbook/internal/cacher"
	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/event"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/plan"
)

// liveServer is a disc of the shape of Ubuntu's live server, whose kernel and
// initrd play a script.
func liveServer(t *testing.T, script string, files map[string][]byte) string {
	t.Helper()
	peer.NeedTool(t, "xorriso")
	kernel, initrd := peer.Player(t, script, files)
	tree, disc := t.TempDir(), filepath.Join(t.TempDir(), "ubuntu-24.04-live-server-amd64.iso")
	for _, dir := range []string{"casper", ".disk"} {
		peer.Must(t, os.Mkdir(filepath.Join(tree, dir), 0o755))
	}
	for from, to := range map[string]string{kernel: "casper/vmlinuz", initrd: "casper/initrd"} {
		content, err := os.ReadFile(from)
		peer.Must(t, err)
		peer.Must(t, os.WriteFile(filepath.Join(tree, to), content, 0o444))
	}
	info := "Ubuntu-Server 24.04.1 LTS \"Noble Numbat\" - Release amd64 (20240827)\n"
	peer.Must(t, os.WriteFile(filepath.Join(tree, ".disk/info"), []byte(info), 0o444))
	peer.Run(t, "xorriso", "-as", "mkisofs", "-quiet", "-V", "Ubuntu-Server 24.04.1 LTS amd64", "-J", "-r", "-o", disc, tree)
	return disc
}

// An installer on a disc starts from it, with the disc in the drive and the answers
// on a second one.
func TestVMPlayedFromADisc(t *testing.T) {
	const answers = "#cloud-config\nautoinstall:\n  version: 1\n"
	s := newStage(t)
	disc := liveServer(t, `mount-label Ubuntu-Server 24.04.1 LTS amd64
mount-label cidata
disk /root.img
log Nov 24 12:09:21 ubuntu-server subiquity_event.1234[1234]: start: subiquity/Shutdown/shutdown: mode=POWEROFF
poweroff
`, map[string][]byte{"/root.img": rootDisk(t)})
	i := definition.Install{Kind: "autoinstall", Location: medium(t, disc), Answers: op.Secret{Value: answers}, Memory: 1024}
	layer, err := s.install(plan.Step{
		Step: definition.Step{Kind: plan.KindInstall, Name: i.Kind}, Image: "played", Install: &i, Size: 1 << 30,
	})
	if err != nil {
		t.Fatal(err)
	}
	has(t, "console", s.lines(event.Console), "found Ubuntu-Server 24.04.1 LTS amd64 on sr0", "found cidata on vdb")
	has(t, "notices", s.logged(layer, event.Notice), "installed Played 1")
	left, err := filepath.Glob(filepath.Join(s.Store.Dir(), "layers", "*", "*"))
	peer.Must(t, err)
	for _, path := range left {
		switch filepath.Base(path) {
		case "disk.qcow2", "layer.json", "log.ndjson", "used":
		default:
			t.Errorf("%s was left beside the layer", path)
		}
	}
}

// Whoever changes a disc after it was planned is found out.
func TestVMPlayedFromAnotherDisc(t *testing.T) {
	s := newStage(t)
	disc := liveServer(t, "poweroff\n", nil)
	i := definition.Install{Kind: "autoinstall", Location: medium(t, disc), Memory: 512}
	i.Location.Checksum = digest.Of([]byte("another")).Checksum()
	_, err := s.install(plan.Step{Step: definition.Step{Kind: plan.KindInstall, Name: i.Kind}, Image: "played", Install: &i, Size: 1 << 30})
	if err == nil || !strings.Contains(err.Error(), disc) || len(s.lines(event.Console)) > 0 {
		t.Errorf("%v, console %q", err, s.lines(event.Console))
	}
}

// A tree that lies on this machine is served to the installer; packages come
// through the proxy that keeps them, which the image does not learn of.
func TestVMPlayedSurroundings(t *testing.T) {
	disk := map[string][]byte{"/root.img": rootDisk(t)}
	t.Run("a local tree", func(t *testing.T) {
		s := newStage(t)
		kernel, initrd := peer.Player(t, "cmdline\ndisk /root.img\nsay herdbook: the installation is complete\npoweroff\n", disk)
		i := definition.Install{
			Kind: "kickstart", Location: definition.Medium{URL: "file://" + t.TempDir()},
			Kernel: medium(t, kernel), Initrd: medium(t, initrd), Memory: 512,
		}
		if _, err := s.install(plan.Step{Step: definition.Step{Kind: plan.KindInstall, Name: i.Kind}, Image: "played", Install: &i, Size: 1 << 30}); err != nil {
			t.Fatal(err)
		}
		has(t, "console", s.lines(event.Console), " inst.repo=http://10.0.2.2:")
	})
	t.Run("a package cache", func(t *testing.T) {
		peer.NeedTool(t, "/usr/sbin/apt-cacher-ng")
		s := newStage(t)
		s.Packages = true
		script := []string{
			"cmdline", "cat /usr/lib/finish-install.d/90herdbook", "disk /root.img",
			"log Nov 24 15:21:10 herdbook: the installation is complete", "poweroff",
		}
		files := map[string][]byte{"/root.img": disk["/root.img"], "/usr/lib/debian-installer": nil} // which makes its directories
		if _, err := s.play(definition.Install{Kind: "preseed"}, script, files); err != nil {
			t.Fatal(err)
		}
		console := s.lines(event.Console)
		has(t, "console", console, " mirror/http/proxy=http://10.0.2.2:", "http://10.0.2.2:")
		at := slices.IndexFunc(console, func(line string) bool { return strings.Contains(line, "mirror/http/proxy=") })
		_, proxy, _ := strings.Cut(console[at], "mirror/http/proxy=http://10.0.2.2:")
		port, _, _ := strings.Cut(proxy, " ")
		if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			peer.Must(t, conn.Close())
			t.Error("the proxy is there after the build")
		}
	})
}

func TestPackagesAreKeptWhereTheyCanBe(t *testing.T) {
	var notices []string
	note := func(e event.Event) { notices = append(notices, e.Text) }
	if address := (&packages{}).address(t.Context(), note); address != "" {
		t.Errorf("none was asked for, and it is at %s", address)
	}
	peer.NeedTool(t, "/usr/sbin/apt-cacher-ng")
	p, second := &packages{dir: t.TempDir()}, &packages{}
	first := p.address(t.Context(), note)
	if again := p.address(t.Context(), note); !strings.HasPrefix(first, "http://10.0.2.2:") || again != first {
		t.Errorf("it is at %q, then at %q", first, again)
	}
	second.dir = p.dir
	if address := second.address(t.Context(), note); address != "" {
		t.Errorf("two proxies keep their packages in one place: %s", address)
	}
	if want := "packages are fetched anew, and not kept: start the packages' proxy: " + cacher.ErrInUse.Error(); !slices.Equal(notices, []string{want}) {
		t.Errorf("%q was not said, but %q", want, notices)
	}
	peer.Must(t, p.close())
	peer.Must(t, second.close())
}

func TestServe(t *testing.T) {
	dir := t.TempDir()
	peer.Must(t, os.WriteFile(filepath.Join(dir, "squashfs.img"), []byte("the second stage"), 0o644))
	address, stop, err := serve(dir)
	peer.Must(t, err)
	address = strings.Replace(address, hostAddress, "127.0.0.1", 1)
	for path, want := range map[string]string{"squashfs.img": "200 the second stage", "../../etc/passwd": "404", "none": "404"} {
		response, err := http.Get(address + path)
		peer.Must(t, err)
		body, err := io.ReadAll(response.Body)
		peer.Must(t, err)
		peer.Must(t, response.Body.Close())
		if got := fmt.Sprintf("%d %s", response.StatusCode, body); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q", path, got)
		}
	}
	peer.Must(t, stop())
	if _, err := http.Get(address); err == nil {
		t.Error("it serves on")
	}
}
