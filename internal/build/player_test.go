package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/event"
	"herdbook/internal/install"
	"herdbook/internal/machine"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/pin"
	"herdbook/internal/plan"
	"herdbook/internal/store"
)

// stage is a builder with a real machine, in which an installer is played.
type stage struct {
	*testing.T
	*Builder
	mu     sync.Mutex
	events []event.Event
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{T: t}
	s.Builder = newBuilder(t, s.take)
	s.Now = time.Now
	s.Accelerator = func(ctx context.Context) (machine.Accelerator, error) {
		verdict, err := machine.Probe(ctx, t.TempDir())
		return verdict.Accelerator, err
	}
	return s
}

func (s *stage) take(e event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
}

// lines is what came on a stream.
func (s *stage) lines(stream string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for _, e := range s.events {
		if e.Kind == event.Log && e.Stream == stream {
			list = append(list, e.Text)
		}
	}
	return list
}

// medium is a file of this host as something to install from.
func medium(t *testing.T, path string) definition.Medium {
	t.Helper()
	content, err := os.ReadFile(path)
	peer.Must(t, err)
	return definition.Medium{URL: "file://" + path, Checksum: digest.Of(content).Checksum()}
}

// play builds an image by an installer that plays a script.
func (s *stage) play(i definition.Install, script []string, files map[string][]byte) (store.Layer, error) {
	s.Helper()
	kernel, initrd := peer.Player(s, strings.Join(script, "\n")+"\n", files)
	i.Kernel, i.Initrd = medium(s.T, kernel), medium(s.T, initrd)
	i.Memory = 512
	return s.install(plan.Step{
		Step:  definition.Step{Kind: plan.KindInstall, Name: i.Kind, Position: "herdbook.hcl:3", Timeout: i.Timeout},
		Image: "played", Install: &i, Size: 1 << 30,
	})
}

// install builds an image of one step.
func (s *stage) install(step plan.Step) (store.Layer, error) {
	s.Helper()
	image := plan.Image{Image: definition.Image{Name: "played"}, Steps: []plan.Step{step}}
	layers, err := s.Build(s.Context(), &plan.Plan{Images: []plan.Image{image}})
	if err != nil {
		return store.Layer{}, err
	}
	layer, ok, err := s.Store.Lookup(step.Key(""))
	if err != nil || !ok || layer.Digest != layers["played"] {
		s.Fatalf("the layer that was built is not in the store: %v, %v", ok, err)
	}
	return layer, nil
}

// rootDisk is a disk image of one file system that looks like a system.
func rootDisk(t *testing.T) []byte {
	t.Helper()
	peer.NeedTool(t, "mke2fs")
	tree, image := t.TempDir(), filepath.Join(t.TempDir(), "disk")
	peer.Must(t, os.Mkdir(filepath.Join(tree, "etc"), 0o755))
	peer.Must(t, os.WriteFile(filepath.Join(tree, "etc/os-release"), []byte("ID=played\nPRETTY_NAME=\"Played 1\"\n"), 0o644))
	peer.Must(t, os.WriteFile(filepath.Join(tree, "etc/fstab"), nil, 0o644))
	peer.Run(t, "mke2fs", "-q", "-t", "ext4", "-d", tree, image, "4M")
	content, err := os.ReadFile(image)
	peer.Must(t, err)
	return content
}

// logged is what a layer's log says of a kind, in its order.
func (s *stage) logged(layer store.Layer, kind event.Kind) []string {
	s.Helper()
	log, err := s.Store.Log(layer.Digest)
	peer.Must(s, err)
	defer log.Close()
	var list []string
	for d := json.NewDecoder(log); ; {
		var e event.Event
		err := d.Decode(&e)
		if errors.Is(err, io.EOF) {
			return list
		}
		peer.Must(s, err)
		if e.Kind == kind {
			list = append(list, e.Text)
		}
	}
}

// has checks that there is a line that holds each text, in the order of texts.
func has(t *testing.T, what string, lines []string, texts ...string) {
	t.Helper()
	i := 0
	for _, text := range texts {
		found := slices.IndexFunc(lines[i:], func(line string) bool { return strings.Contains(line, text) })
		if found < 0 {
			t.Errorf("%s: no line with %q behind the %dth of\n%s", what, text, i, strings.Join(lines, "\n"))
			return
		}
		i += found + 1
	}
}

// The words of good runs, as the monitor's own test has them.
var goodRuns = map[string]struct {
	answers string // where they lie
	words   string // of the kernel's command line
	script  []string
	last    string
	want    []string
}{
	"preseed": {"/preseed.cfg", "DEBIAN_FRONTEND=text TERM=dumb auto=true priority=critical", []string{
		"log Nov 24 14:55:01 main-menu[1617]: INFO: Menu item 'localechooser' selected",
		"log Nov 24 14:55:31 main-menu[1617]: INFO: Menu item 'ethdetect' selected",
		"log Nov 24 14:55:51 main-menu[1617]: INFO: Menu item 'choose-mirror' selected",
		"log Nov 24 14:56:11 main-menu[1617]: INFO: Menu item 'download-installer' selected",
		"log Nov 24 14:57:41 main-menu[1617]: INFO: Menu item 'partman-base' selected",
		"log Nov 24 14:58:11 main-menu[1617]: INFO: Menu item 'bootstrap-base' selected",
		`print "\rInstalling the base system  ... 10%"`, `print "... 50%"`, `print "... 100%\n"`,
		"log Nov 24 15:14:01 main-menu[1617]: INFO: Menu item 'apt-setup-udeb' selected",
		"log Nov 24 15:16:14 main-menu[1617]: INFO: Menu item 'grub-installer' selected",
		"log Nov 24 15:18:39 main-menu[1617]: INFO: Menu item 'finish-install' selected",
	}, "log Nov 24 15:21:10 herdbook: the installation is complete",
		[]string{install.Media, install.Network, install.Media, install.Partition, install.BaseSystem, install.Packages, install.BootLoader, install.Finish}},
	"kickstart": {"/ks.cfg", "inst.ks=file:/ks.cfg inst.cmdline", []string{
		"say Starting installer, one moment...", "say anaconda 34.25.5.9-1.el9.alma.1 for AlmaLinux 9.5 started.",
		"say Starting automated install.....", "log 12:00:00,000 INFO anaconda: a line of its own log",
		"say Configuring storage", "say Creating disklabel on /dev/vda", "say Running pre-installation scripts",
		"say Starting package installation process", "say Installing libgcc.x86_64 (1/313)", "say Installing rootfiles.noarch (313/313)",
		"say Performing post-installation setup tasks", "say Installing boot loader", "say Generating initramfs",
	}, "say herdbook: the installation is complete",
		[]string{install.Media, install.Network, install.Partition, install.BaseSystem, install.Packages, install.BootLoader, install.Finish}},
	"autoinstall": {"", "autoinstall ds=nocloud", []string{
		"log Nov 24 12:00:01 ubuntu-server subiquity_event.1234[1234]: start: subiquity/Network/apply_autoinstall_config",
		"log Nov 24 12:00:09 ubuntu-server subiquity_event.1234[1234]: start: subiquity/Filesystem/apply_autoinstall_config",
		"log Nov 24 12:00:20 ubuntu-server subiquity_event.1234[1234]:   subiquity/Install/install/curtin_install/run/cmd-install/stage-extract: writing install sources",
		"log Nov 24 12:03:20 ubuntu-server subiquity_event.1234[1234]:   subiquity/Install/install/curtin_install/run/cmd-install/stage-curthooks: configuring installed system",
		"log Nov 24 12:05:20 ubuntu-server subiquity_event.1234[1234]: start: subiquity/Install/install/postinstall: final system configuration",
		"log Nov 24 12:09:20 ubuntu-server subiquity_event.1234[1234]: start: subiquity/Late/run",
	}, "log Nov 24 12:09:21 ubuntu-server subiquity_event.1234[1234]: start: subiquity/Shutdown/shutdown: mode=POWEROFF",
		[]string{install.Media, install.Network, install.Partition, install.BaseSystem, install.BootLoader, install.Packages, install.Finish}},
	"autoyast": {"/autoinst.xml", "autoyast=file:///autoinst.xml textmode=1 linuxrc.log=/dev/ttyS1", []string{
		"say >>> linuxrc 7.0.31 (Kernel 5.14.21-150500.53-default) <<<", "say Loading Installation System (1/7)",
		"log linuxrc: a line of its own log", "say starting yast", "say Installing Packages...",
		"say Saving bootloader configuration...", "say Finishing Basic Installation",
	}, "log install program exit code is 0",
		[]string{install.Media, install.Network, install.Partition, install.Packages, install.BootLoader, install.Finish}},
}

// A run without a fault becomes a layer, whose log tells the phases.
func TestVMPlayedInstallers(t *testing.T) {
	const answers = "autoinstall: <profile> poweroff\n# what installers read, to the byte: \x01 ä\n"
	disk := rootDisk(t)
	for kind, c := range goodRuns {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			script := append([]string{"cmdline"}, c.script...)
			if c.answers != "" {
				script = append(script, "stat "+c.answers)
			}
			script = append(script, "disk /root.img", c.last, "poweroff")
			i := definition.Install{Kind: kind, Answers: op.Secret{Value: answers}, Arguments: []string{"mine=yes"}}
			layer, err := s.play(i, script, map[string][]byte{"/root.img": disk})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, s.logged(layer, event.PhaseDone)); diff != "" {
				t.Error(diff)
			}
			has(t, "notices", s.logged(layer, event.Notice), "installed Played 1")
			has(t, "console", s.lines(event.Console), c.words)
			has(t, "console", s.lines(event.Console), " mine=yes")
			if c.answers != "" {
				has(t, "console", s.lines(event.Console), statOf(c.answers, "100600", answersIn(t, i, c.answers)))
			}
			for _, line := range script {
				if text, ok := strings.CutPrefix(line, "log "); ok && !slices.Contains(s.lines(event.System), text) {
					t.Errorf("the log lacks %q", text)
				}
			}
			if verdict, err := s.Accelerator(t.Context()); err != nil || layer.How != string(verdict) {
				t.Errorf("it was made by %q, %v", layer.How, err)
			}
		})
	}
}

// statOf is what the player says of a regular file of root's.
func statOf(path, mode, content string) string {
	return fmt.Sprintf("stat %s %s 0 0 %d %s", path, mode, len(content), digest.Of([]byte(content)))
}

// answersIn is what lies at a path of an installation's initrd, which begins with
// the answers.
func answersIn(t *testing.T, i definition.Install, path string) string {
	t.Helper()
	s, err := install.New(i, install.Place{})
	peer.Must(t, err)
	for _, f := range s.Files {
		if f.Path == path && strings.HasPrefix(string(f.Data), i.Answers.Value) {
			return string(f.Data)
		}
	}
	t.Fatalf("the answers are not at %s", path)
	return ""
}

// failing is a run that must fail.
type failing struct {
	kind   string
	script []string // behind it the player hangs
	phase  string
	texts  []string // of the error, in this order
	hang   bool
	log    string // in the lines of the installer's own log
}

// The ways to fail that a machine shows within seconds. That one which works
// without a word, or does nothing, is found, too, takes minutes: see the monitor.
var failingRuns = map[string]failing{
	"a question with its text": {"preseed", []string{
		"log Nov 24 14:55:51 main-menu[1617]: INFO: Menu item 'choose-mirror' selected",
		"log Nov 24 14:56:01 main-menu[1617]: WARNING **: Configuring 'choose-mirror' failed with error code 1",
		"say Loading additional components", "say Choose a mirror of the archive", "say ------------------", "say   1: Retry [*],",
		`print "Prompt: '?' for help, default=1> "`, "read",
	}, install.Network, []string{"waits for a person", "Choose a mirror of the archive", "1: Retry", "Prompt: '?' for help, default=1>", "before that it said:", "failed with error code 1"}, true, "Configuring 'choose-mirror' failed"},
	"a menu": {"kickstart", []string{
		"say Starting installer, one moment...", "log a line of its own log",
		`print "Please make a selection from the above:  "`, "read",
	}, install.Network, []string{"waits for a person", "Please make a selection"}, true, "a line of its own log"},
	"a confirmation": {"autoinstall", []string{`print "Continue with autoinstall? (yes|no)"`, "read"},
		install.Media, []string{"waits for a person", "Continue with autoinstall? (yes|no)"}, true, ""},
	"a question in line mode": {"autoyast", []string{
		"say Please choose a language.", "say 1) English", `print "\n> "`, "read",
	}, install.Media, []string{"waits for a person", "1) English", ">"}, true, ""},

	"an error of Anaconda": {"kickstart", []string{"say Configuring storage", "say The installer will now terminate."},
		install.Partition, []string{"the installer reports an error", "The installer will now terminate."}, false, ""},
	"an error, and the end at once": {"kickstart", []string{"say Configuring storage", "say The installer will now terminate.", "poweroff"},
		install.Partition, []string{"the installer reports an error", "The installer will now terminate."}, false, ""},
	"an error in the log": {"autoinstall", []string{
		"say start: subiquity/Filesystem/apply_autoinstall_config",
		"log Nov 24 12:00:20 u subiquity_log.1[9]: curtin.commands.block_meta: ERROR no disk",
		"say An error occurred. Press enter to start a shell",
	}, install.Partition, []string{"the installer reports an error", "An error occurred", "before that it said", "ERROR no disk"}, false, "ERROR no disk"},
	"an error of linuxrc": {"autoyast", []string{"say *** Could not find the repository."},
		install.Media, []string{"the installer reports an error", "*** Could not find the repository."}, false, ""},

	"powered off too early": {"preseed", []string{
		"log Nov 24 14:58:11 main-menu[1617]: INFO: Menu item 'bootstrap-base' selected", "say The system is going down NOW!", "poweroff",
	}, install.BaseSystem, []string{"powered off before the installation was complete", "its last words were"}, false, "bootstrap-base"},
	"restarted too early": {"kickstart", []string{"say Configuring storage", "reset"},
		install.Partition, []string{"restarted before the installation was complete"}, false, ""},
	"a kernel that gives up": {"autoyast", []string{"say starting yast", "panic"},
		install.Partition, []string{"the machine's kernel gave up", "Kernel panic - not syncing"}, false, ""},
	"a kernel that gives up at the end": {"kickstart", []string{"say herdbook: the installation is complete", "panic"},
		install.Media, []string{"the installation was complete, but the machine's kernel gave up", "Kernel panic - not syncing"}, false, ""},
}

func TestVMPlayedFailures(t *testing.T) {
	for name, c := range failingRuns {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			_, err := s.play(definition.Install{Kind: c.kind, Answers: op.Secret{Value: "answers"}}, append(slices.Clone(c.script), "hang"), nil)
			var step *StepError
			var failure *InstallError
			if !errors.As(err, &step) || !errors.As(err, &failure) {
				t.Fatalf("%T: %v", err, err)
			}
			if failure.Phase != c.phase || failure.Hang != c.hang || step.Kept == "" {
				t.Errorf("phase %q, hang %v, kept %q; want %q, %v", failure.Phase, failure.Hang, step.Kept, c.phase, c.hang)
			}
			rest := err.Error()
			for _, text := range c.texts {
				_, behind, found := strings.Cut(rest, text)
				if !found {
					t.Errorf("%v\nwant, in this order: %q", err, c.texts)
					break
				}
				rest = behind
			}
			for _, line := range c.script {
				if text, ok := strings.CutPrefix(line, "say "); ok {
					// A panic says much behind it.
					if !slices.Contains(c.script, "panic") {
						has(t, "the last lines", failure.Console, text)
					}
				}
			}
			if c.log != "" {
				has(t, "the installer's log", failure.System, c.log)
				has(t, "the report", step.Log, "the installer's own log:", c.log)
			}
			if (step.Screen != "") != c.hang {
				t.Fatalf("the screenshot: %q", step.Screen)
			}
			if c.hang {
				looks(t, step.Screen)
			}
		})
	}
}

// looks checks a screenshot.
func looks(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	picture, err := png.Decode(f)
	if err != nil || picture.Bounds().Dx() < 320 || picture.Bounds().Dy() < 200 {
		t.Errorf("the screenshot: %v, %v", picture, err)
	}
}

// The last words alone are no system.
func TestVMPlayedWithoutASystem(t *testing.T) {
	s := newStage(t)
	_, err := s.play(definition.Install{Kind: "autoyast"}, []string{"log install program exit code is 0", "poweroff"}, nil)
	var failure *InstallError
	if err == nil || errors.As(err, &failure) || !strings.Contains(err.Error(), "there is no system on the disk") {
		t.Errorf("%T: %v", err, err)
	}
}

// A restart behind the last words is as good as the power-off.
func TestVMPlayedRestart(t *testing.T) {
	s := newStage(t)
	script := []string{"disk /root.img", "say herdbook: the installation is complete", "reset"}
	if _, err := s.play(definition.Install{Kind: "kickstart"}, script, map[string][]byte{"/root.img": rootDisk(t)}); err != nil {
		t.Error(err)
	}
}

// What of the answers is secret is told nowhere.
func TestVMPlayedSecret(t *testing.T) {
	s := newStage(t)
	i := definition.Install{Kind: "preseed", Answers: op.Secret{Name: "TOKEN", Value: "d-i x string hunter2\n", Parts: []string{"hunter2"}}}
	_, err := s.play(i, []string{
		"log Nov 24 14:56:01 main-menu[1617]: WARNING **: Configuring 'hunter2' failed with error code 1",
		"say a token: hunter2", "say A question", "say ----------", "say about hunter2", `print "Prompt: '?' for help, default=hunter2> "`, "hang",
	}, nil)
	var step *StepError
	if !errors.As(err, &step) || !strings.Contains(err.Error(), "default=***>") {
		t.Fatal(err)
	}
	text := err.Error() + fmt.Sprint(step.Log)
	for _, stream := range []string{event.Console, event.System} {
		text += strings.Join(s.lines(stream), "\n")
	}
	log, readErr := os.ReadFile(filepath.Join(s.Store.Dir(), "layers", "failed-played", "log.ndjson"))
	peer.Must(t, readErr)
	if text += string(log); strings.Contains(text, "hunter2") {
		t.Errorf("the secret was told: %s", text)
	}
}

// A machine that does nothing waits for a person, whatever stands on its console.
func TestVMPlayedIdleness(t *testing.T) {
	s := newStage(t)
	accelerator, err := s.Accelerator(t.Context())
	peer.Must(t, err)
	for script, want := range map[string]string{
		"say a word\nhang\n":                            "done nothing at all for 10s",
		"say a word\nbusy 15s\nsay another\npoweroff\n": "powered off before the installation was complete",
	} {
		kernel, initrd := peer.Player(t, script, nil)
		reading := install.Reading{
			Phases: []install.Phase{{Name: "alone", Limit: time.Hour, Silence: time.Hour}}, Done: regexp.MustCompile("never"), Idle: 10 * time.Second,
		}
		spec := machine.Spec{Kernel: kernel, Initrd: initrd, Accelerator: accelerator, CommandLine: "console=ttyS0 panic=-1", Memory: 512, Screen: true, Log: "ttyS1"}
		w := &watch{sink: s.take, now: time.Now, screen: filepath.Join(t.TempDir(), "screen.png"), limit: time.Hour}
		if err := w.run(t.Context(), spec, reading); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", script, err, want)
		}
	}
}

// The definition's own time limit ends whatever the installer does.
func TestVMPlayedTimeout(t *testing.T) {
	s := newStage(t)
	_, err := s.play(definition.Install{Kind: "kickstart", Timeout: 20 * time.Second}, []string{"say a word before", "busy 1h"}, nil)
	var step *StepError
	var failure *InstallError
	if !errors.As(err, &step) || !errors.As(err, &failure) || !strings.Contains(err.Error(), "the installation was not done after 20s; give the install block a longer timeout") {
		t.Fatal(err)
	}
	has(t, "the last lines", failure.Console, "a word before")
	looks(t, step.Screen)
}

// What a definition lays into the initrd arrives as it is on the host, root's.
func TestVMPlayedFiles(t *testing.T) {
	s := newStage(t)
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"ks.cfg": 0o644, "late.sh": 0o755, "extra/a": 0o640, "extra/deep/b": 0o600} {
		path := filepath.Join(dir, name)
		peer.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		peer.Must(t, os.WriteFile(path, []byte("poweroff "+name), 0o600))
		peer.Must(t, os.Chmod(path, mode))
	}
	peer.Must(t, os.Chmod(filepath.Join(dir, "extra/deep"), 0o700))
	peer.Must(t, os.Chmod(filepath.Join(dir, "extra"), 0o755))
	peer.Must(t, os.Symlink("deep/b", filepath.Join(dir, "extra/link")))
	kernel, initrd := peer.Player(t, `stat /ks.cfg
stat /opt/it/late.sh
stat /extra
stat /extra/a
stat /extra/deep
stat /extra/deep/b
stat /extra/link
cat /extra/link
stat /mine
disk /root.img
say herdbook: the installation is complete
poweroff
`, map[string][]byte{"/root.img": rootDisk(t), "/mine": []byte("its own")})
	peer.Must(t, os.WriteFile(filepath.Join(dir, "herdbook.hcl"), fmt.Appendf(nil, `
image "played" {
  disk {
    size = "1G"
  }
  install "kickstart" {
    kernel          = %q
    kernel_checksum = %q
    initrd          = %q
    initrd_checksum = %q
    answers         = file("ks.cfg")
    memory          = "512M"
    files = {
      "/opt/it/late.sh" = "late.sh"
      "/extra"          = "extra"
    }
  }
}
`, kernel, medium(t, kernel).Checksum, initrd, medium(t, initrd).Checksum), 0o644))
	d, err := definition.Load(dir, definition.Options{})
	peer.Must(t, err)
	p, err := plan.New(d, pin.Lock{})
	peer.Must(t, err)
	if _, err := s.install(p.Images[0].Steps[0]); err != nil {
		t.Fatal(err)
	}
	has(t, "console", s.lines(event.Console),
		statOf("/ks.cfg", "100600", answersIn(t, *p.Images[0].Steps[0].Install, "/ks.cfg")), statOf("/opt/it/late.sh", "100755", "poweroff late.sh"),
		"stat /extra 040755 0 0", statOf("/extra/a", "100640", "poweroff extra/a"), "stat /extra/deep 040700 0 0",
		statOf("/extra/deep/b", "100600", "poweroff extra/deep/b"), "stat /extra/link 120777 0 0 deep/b", "poweroff extra/deep/b",
		statOf("/mine", "100644", "its own"))
}
