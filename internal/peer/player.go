package peer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
	"github.com/ulikunitz/xz"
)

// playerPackage is the program that Player starts.
const playerPackage = "herdbook/test/player"

// playerModules are the drivers that the player's machine can need.
var playerModules = []string{"virtio_pci", "virtio_blk", "virtio_console", "virtio_scsi", "sr_mod", "isofs"}

// errNoPlayer says what is missing for one.
var errNoPlayer = errors.New("no installer can be played here")

// playerParts is what every player has: it is made once for a test program.
type playerParts struct {
	kernel  string
	records []cpio.Record // of the initrd
}

var playerOnce = sync.OnceValues(makePlayer)

// Player returns the paths of a kernel, which is this host's, and of an initrd
// that plays a script, a directive a line: see test/player. Files are laid into the
// initrd by their absolute paths, regular ones of root with mode 0644.
func Player(t testing.TB, script string, files map[string][]byte) (kernel, initrd string) {
	t.Helper()
	parts, err := playerOnce()
	Need(t, !errors.Is(err, errNoPlayer), fmt.Sprint(err))
	Must(t, err)
	records := append(slices.Clone(parts.records), cpio.StaticFile("script", script, 0o644))
	for name, content := range files {
		name = strings.TrimPrefix(path.Clean(name), "/")
		records = append(records, parentRecords(name)...)
		records = append(records, cpio.StaticFile(name, string(content), 0o644))
	}
	initrd = filepath.Join(t.TempDir(), "player.initrd")
	Must(t, writeInitrd(initrd, records))
	return parts.kernel, initrd
}

// parentRecords are the directories on the way to a file.
func parentRecords(name string) []cpio.Record {
	var list []cpio.Record
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		list = append([]cpio.Record{cpio.Directory(dir, 0o755)}, list...)
	}
	return list
}

func writeInitrd(path string, records []cpio.Record) error {
	var out bytes.Buffer
	w := cpio.Newc.Writer(&out)
	err := cpio.WriteRecords(w, records)
	if err == nil {
		err = cpio.WriteTrailer(w)
	}
	if err != nil {
		return fmt.Errorf("pack the player: %w", err)
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}

// makePlayer finds a kernel and builds what starts in it.
func makePlayer() (playerParts, error) {
	kernel, modules, err := hostKernel()
	if err != nil {
		return playerParts{}, err
	}
	program, err := buildPlayer()
	if err != nil {
		return playerParts{}, err
	}
	p := playerParts{kernel: kernel, records: []cpio.Record{
		cpio.StaticFile("init", string(program), 0o755), cpio.Directory("modules", 0o755),
	}}
	dep, err := os.ReadFile(filepath.Join(modules, "modules.dep"))
	if err != nil {
		return p, fmt.Errorf("%w: %w", errNoPlayer, err)
	}
	order := ""
	for _, name := range loadOrder(string(dep), playerModules) {
		module, err := readModule(filepath.Join(modules, name))
		if err != nil {
			return p, err
		}
		at := "modules/" + moduleName(name) + ".ko"
		order += "/" + at + "\n"
		p.records = append(p.records, cpio.StaticFile(at, string(module), 0o644))
	}
	p.records = append(p.records, cpio.StaticFile("modules/order", order, 0o644))
	return p, nil
}

// hostKernel finds a kernel of this host that can be read, with the directory of
// its modules: the last by name.
func hostKernel() (kernel, modules string, err error) {
	kernels, err := filepath.Glob("/boot/vmlinuz-*")
	if err != nil {
		return "", "", err
	}
	for _, kernel := range slices.Backward(kernels) {
		modules := filepath.Join("/lib/modules", strings.TrimPrefix(filepath.Base(kernel), "vmlinuz-"))
		f, err := os.Open(kernel)
		if err != nil {
			continue // Ubuntu's are root's alone
		}
		_, err = os.Stat(modules)
		if errors.Join(err, f.Close()) == nil {
			return kernel, modules, nil
		}
	}
	return "", "", fmt.Errorf("%w: in /boot is no kernel that this account can read, with its modules in /lib/modules", errNoPlayer)
}

// buildPlayer builds the program, from wherever in the module the test stands.
func buildPlayer() (program []byte, err error) {
	if _, err := exec.LookPath("go"); err != nil {
		return nil, fmt.Errorf("%w: there is no go command to build the player", errNoPlayer)
	}
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return nil, fmt.Errorf("find the module: %w", err)
	}
	dir, err := os.MkdirTemp("", "player-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	out := filepath.Join(dir, "player")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, playerPackage)
	cmd.Dir = filepath.Dir(strings.TrimSpace(string(mod)))
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the player: %w\n%s", err, said)
	}
	return os.ReadFile(out)
}

// loadOrder lists modules, by their paths in modules.dep (modules.dep(5)), with
// all that they depend on before them. What is not listed is a part of the kernel.
func loadOrder(dep string, names []string) []string {
	paths, needs := map[string]string{}, map[string][]string{}
	for line := range strings.Lines(dep) {
		module, others, _ := strings.Cut(strings.TrimSpace(line), ":")
		paths[moduleName(module)], needs[module] = module, strings.Fields(others)
	}
	var order []string
	var add func(string)
	add = func(module string) {
		if slices.Contains(order, module) {
			return
		}
		for _, other := range needs[module] {
			add(other)
		}
		order = append(order, module)
	}
	for _, name := range names {
		if module, ok := paths[name]; ok {
			add(module)
		}
	}
	return order
}

// moduleName is the name of a module in a file such as kernel/fs/isofs/isofs.ko.xz.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".")
	return strings.ReplaceAll(name, "-", "_")
}

// readModule reads a module, decompressed: not every kernel does that itself.
func readModule(path string) (content []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var r io.Reader = f
	switch filepath.Ext(path) {
	case ".xz":
		r, err = xz.NewReader(f)
	case ".zst":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(f); err == nil {
			defer z.Close()
			r = z
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return io.ReadAll(r)
}
