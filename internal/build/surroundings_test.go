package build

import (
	"fmt"
	"io"
	"maps"
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
	"herdbook/internal/gateway"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/plan"
)

// discOf is a disc of the shape of an installer's, whose kernel and initrd play a
// script, and the kind of install that it is for.
type discOf struct {
	kind, volume   string
	kernel, initrd string            // where they lie
	files          map[string]string // more on it
	source         string            // by which the kernel's command line names the disc; "" if it need not
	last           string            // words of the installer
}

var discs = map[string]discOf{
	"an Ubuntu live server": {
		"autoinstall", "Ubuntu-Server 24.04.1 LTS amd64", "casper/vmlinuz", "casper/initrd",
		map[string]string{".disk/info": "Ubuntu-Server 24.04.1 LTS \"Noble Numbat\" - Release amd64 (20240827)\n"}, "",
		"log Nov 24 12:09:21 ubuntu-server subiquity_event.1234[1234]: subiquity/Shutdown/shutdown: mode=POWEROFF",
	},
	"a Debian netinst": {
		"preseed", "Debian 12.8.0 amd64 n", "install.amd/vmlinuz", "install.amd/initrd.gz",
		map[string]string{".disk/info": "Debian GNU/Linux 12.8.0 \"Bookworm\" - Official amd64 NETINST with firmware 20241109-11:05\n"}, "",
		"log herdbook: the installation is complete",
	},
	"a Rocky boot.iso": {
		"kickstart", "Rocky-9-5-x86_64-dvd", "images/pxeboot/vmlinuz", "images/pxeboot/initrd.img",
		map[string]string{".discinfo": "1731415687.1\nRocky Linux 9.5\nx86_64\n"}, " inst.stage2=hd:LABEL=Rocky-9-5-x86_64-dvd",
		"say herdbook: the installation is complete",
	},
	"a Leap DVD": {
		"autoyast", "openSUSE-Leap-15.6-DVD-x86_64710", "boot/x86_64/loader/linux", "boot/x86_64/loader/initrd",
		map[string]string{"media.1/products": "/ openSUSE-Leap 15.6-1\n"}, " install=cd:/",
		"log install program exit code is 0",
	},
}

// master makes the disc.
func (d discOf) master(t *testing.T, script string, files map[string][]byte) string {
	t.Helper()
	peer.NeedTool(t, "xorriso")
	kernel, initrd := peer.Player(t, script, files)
	top, disc := t.TempDir(), filepath.Join(t.TempDir(), "an installer.iso")
	on := map[string]string{}
	maps.Copy(on, d.files)
	for from, to := range map[string]string{kernel: d.kernel, initrd: d.initrd} {
		content, err := os.ReadFile(from)
		peer.Must(t, err)
		on[to] = string(content)
	}
	for name, content := range on {
		path := filepath.Join(top, name)
		peer.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		peer.Must(t, os.WriteFile(path, []byte(content), 0o444))
	}
	peer.Run(t, "xorriso", "-as", "mkisofs", "-quiet", "-V", d.volume, "-J", "-r", "-o", disc, top)
	return disc
}

// onDisc is the step that installs from a disc.
func onDisc(t *testing.T, kind, disc string) plan.Step {
	t.Helper()
	i := definition.Install{Kind: kind, Location: medium(t, disc), Answers: op.Secret{Value: "#cloud-config\nautoinstall: {version: 1}\n"}, Memory: 1024}
	i.Location.URL = strings.ReplaceAll(i.Location.URL, " ", "%20")
	return plan.Step{Step: definition.Step{Kind: plan.KindInstall, Name: kind}, Image: "played", Install: &i, Size: 1 << 30}
}

// An installer on a disc starts from it, with the disc in the drive, and the
// answers of Ubuntu's on a second one.
func TestVMPlayedFromADisc(t *testing.T) {
	root := map[string][]byte{"/root.img": rootDisk(t)}
	for name, d := range discs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			script := []string{"cmdline", "mount-label " + d.volume, "disk /root.img", d.last, "poweroff", ""}
			want := []string{d.source, "found " + d.volume + " on sr0"}
			if d.kind == "autoinstall" {
				script = slices.Insert(script, 2, "mount-label cidata")
				want = append(want, "found cidata on vdb")
			}
			layer, err := s.install(onDisc(t, d.kind, d.master(t, strings.Join(script, "\n"), root)))
			if err != nil {
				t.Fatal(err)
			}
			has(t, "console", s.lines(event.Console), want...)
			has(t, "notices", s.logged(layer, event.Notice), "installed Played 1")
			left, err := filepath.Glob(filepath.Join(s.Store.Dir(), "layers", "*", "*"))
			peer.Must(t, err)
			for _, path := range left {
				if !slices.Contains([]string{"disk.qcow2", "layer.json", "log.ndjson", "used"}, filepath.Base(path)) {
					t.Errorf("%s was left beside the layer", path)
				}
			}
		})
	}
}

// Whoever changes a disc after it was planned is found out, and so is a disc of
// another kind.
func TestVMPlayedFromAnotherDisc(t *testing.T) {
	disc := discs["an Ubuntu live server"].master(t, "poweroff\n", nil)
	changed := onDisc(t, "autoinstall", disc)
	changed.Install.Location.Checksum = digest.Of([]byte("another")).Checksum()
	for want, step := range map[string]plan.Step{"does not match its digest": changed, `for install "autoinstall"`: onDisc(t, "kickstart", disc)} {
		s := newStage(t)
		_, err := s.install(step)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), disc) || len(s.lines(event.Console)) > 0 {
			t.Errorf("%v, want %q; console %q", err, want, s.lines(event.Console))
		}
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
	address = strings.Replace(address, gateway.Router.String(), "127.0.0.1", 1)
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
