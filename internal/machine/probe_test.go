package machine

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"herdbook/internal/peer"
)

func TestProbeEndsByItself(t *testing.T) {
	peer.NeedTool(t, qemu)
	reason, err := tryAccelerator(context.Background(), TCG)
	if err != nil || reason != "" {
		t.Errorf("the probe under software emulation: %q, %v", reason, err)
	}
}

func TestProbeNoticesWhatHangs(t *testing.T) {
	peer.NeedTool(t, qemu)
	code := probeCode
	defer func() { probeCode = code }()
	probeCode = append([]byte(nil), code...)
	copy(probeCode, []byte{0xfa, 0xeb, 0xfe}) // cli; jmp to itself
	reason, err := tryAccelerator(context.Background(), TCG)
	if err != nil || reason == "" {
		t.Errorf("a program without an end: %q, %v", reason, err)
	}
}

func TestProbeVerdictIsKept(t *testing.T) {
	peer.NeedTool(t, qemu)
	path := filepath.Join(t.TempDir(), "cache", "kvm.json")
	first, err := cachedProbe(context.Background(), path, "this boot")
	if err != nil {
		t.Fatal(err)
	}
	if (first.Accelerator == KVM) != (first.Reason == "") {
		t.Errorf("verdict %+v", first)
	}
	t.Setenv("PATH", "") // a second trial would find no QEMU
	again, err := cachedProbe(context.Background(), path, "this boot")
	if err != nil || again != first {
		t.Errorf("the kept verdict: %+v, %v; want %+v", again, err, first)
	}
	if _, err := cachedProbe(context.Background(), path, "another boot"); err == nil {
		t.Error("the verdict of another boot was believed")
	}
}

func TestProbeCodeIsOfItsSource(t *testing.T) {
	for _, tool := range []string{"as", "ld"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	dir := t.TempDir()
	object, binary := filepath.Join(dir, "probe.o"), filepath.Join(dir, "probe.bin")
	for _, args := range [][]string{
		{"as", "--32", "-o", object, "probe.S"},
		{"ld", "-m", "elf_i386", "-Ttext", "0xfffff000", "--oformat", "binary", "-o", binary, object},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	built, err := os.ReadFile(binary)
	if err != nil || string(built) != string(probeCode) {
		t.Errorf("probe.bin is not what probe.S makes (%v)", err)
	}
}
