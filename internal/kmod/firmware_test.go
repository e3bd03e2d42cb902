package kmod_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"herdbook/internal/kmod"
	"herdbook/internal/kmod/kmodtest"
	"herdbook/internal/peer"
)

// The real modinfo finds the same firmware in the modules of this host's kernel.
func TestModinfoNamesTheSameFirmware(t *testing.T) {
	peer.NeedTool(t, "modinfo")
	dirs, err := filepath.Glob("/lib/modules/*/modules.dep")
	peer.Must(t, err)
	peer.Need(t, len(dirs) > 0, "no kernel is installed")
	dir := filepath.Dir(dirs[len(dirs)-1])
	m, err := kmod.Read(os.DirFS("/"), strings.TrimPrefix(dir, "/"))
	peer.Must(t, err)
	some := 0
	for _, name := range append(m.Below("drivers/comedi"), m.Below("drivers/net")...) {
		files, err := m.Order([]string{name}, nil)
		peer.Must(t, err)
		file := files[len(files)-1]
		content, err := m.Content(file)
		peer.Must(t, err)
		got, err := kmod.FirmwareNames(content)
		out, failed := exec.Command("modinfo", "--field", "firmware", filepath.Join(dir, file)).Output()
		want := strings.Fields(string(out))
		slices.Sort(want)
		if err := errors.Join(err, failed); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, want)
		}
		some += len(got)
	}
	if some == 0 {
		t.Error("no module names firmware")
	}
}

func TestFirmwareNames(t *testing.T) {
	many := make([]string, 1001)
	for i := range many {
		many[i] = fmt.Sprintf("firmware=%d.bin", i)
	}
	good := kmodtest.Module(t, "license=GPL", "firmware=b/2.bin", "firmware=a.bin", "firmware=b/2.bin", "firmwares=no")
	for name, c := range map[string]struct {
		module []byte
		want   string
		wrong  string
	}{
		"two":               {good, "a.bin b/2.bin", ""},
		"none":              {kmodtest.Module(t), "", ""},
		"out of the tree":   {kmodtest.Module(t, "firmware=../../etc/shadow", "firmware=/etc/shadow", "firmware=a/../../b", "firmware=", "firmware=.", "firmware=a//b"), "", ""},
		"as many as may be": {kmodtest.Module(t, many[:1000]...), "1000", ""},
		"too many":          {kmodtest.Module(t, many...), "", "more than 1000 files"},
		"a text":            {[]byte(strings.Repeat("content of a module", 10)), "", "no ELF file of 64 bits"},
		"empty":             {nil, "", "no ELF file of 64 bits"},
		"32 bits":           {append([]byte("\x7fELF\x01\x01"), good[6:]...), "", "no ELF file of 64 bits"},
		"cut":               {good[:200], "", "ends before its sections"},
	} {
		got, err := kmod.FirmwareNames(c.module)
		text := strings.Join(got, " ")
		if len(got) > 10 {
			text = fmt.Sprint(len(got))
		}
		if text != c.want || (err != nil) != (c.wrong != "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %s, %v, want %s, %q", name, text, err, c.want, c.wrong)
		}
	}
}

// Whatever a module has, it names files below the directory of firmware, and not too many.
func FuzzFirmwareNames(f *testing.F) {
	f.Add(kmodtest.Module(f, "license=GPL", "firmware=card/a.bin", "firmware=../b"))
	f.Add(kmodtest.Module(f))
	f.Fuzz(func(t *testing.T, module []byte) {
		names, err := kmod.FirmwareNames(module)
		if err != nil && len(names) > 0 || len(names) > 1000 || !slices.IsSorted(names) {
			t.Errorf("%q, %v", names, err)
		}
		for _, name := range names {
			if !fs.ValidPath(name) || !bytes.Contains(module, []byte(name)) {
				t.Errorf("%q", name)
			}
		}
	})
}

// Firmware is found in the kernel's own order, and decompressed.
func TestFirmware(t *testing.T) {
	tree := kmodtest.Tree(t)
	const dir = "lib/firmware/"
	for name, content := range map[string][]byte{
		"plain": []byte("plain"), "6.1.0-9-amd64/plain": []byte("of the version"), "updates/6.1.0-9-amd64/plain": []byte("updated"),
		"card/z.bin.zst": kmodtest.Compressed(t, "zstd", []byte("by zstd"), "-q"), "card/x.bin.xz": kmodtest.Compressed(t, "xz", []byte("by xz"), "--check=crc32"),
		"both": []byte("plain"), "both.zst": kmodtest.Compressed(t, "zstd", []byte("by zstd"), "-q"), "updates/both.zst": kmodtest.Compressed(t, "zstd", []byte("by zstd"), "-q"),
		"directory/file": nil, "spoiled.xz": []byte("what is this?"), "empty": {},
	} {
		tree[dir+name] = &fstest.MapFile{Data: content}
	}
	m := kmodtest.Read(t, tree)
	for name, want := range map[string]string{"plain": "updated", "card/z.bin": "by zstd", "card/x.bin": "by xz", "both": "plain", "empty": ""} {
		if got, err := m.Firmware(name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"missing", "directory", "card"} {
		if got, err := m.Firmware(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := m.Firmware("spoiled"); err == nil || !strings.Contains(err.Error(), "read firmware lib/firmware/spoiled.xz") {
		t.Errorf("spoiled: %v", err)
	}
}

func TestBefore(t *testing.T) {
	tree := kmodtest.Tree(t)
	tree[kmodtest.Dir+"/modules.softdep"] = &fstest.MapFile{Data: []byte(
		"# Soft dependencies\nsoftdep virtio-net pre: crc16 other post: jbd2\nsoftdep virtio_net pre: jbd2\nsoftdep ext4 crc16\nsoftdep\n")}
	m := kmodtest.Read(t, tree)
	if got := m.Before("virtio-net"); !slices.Equal(got, []string{"crc16", "other", "jbd2"}) {
		t.Errorf("%q", got)
	}
	if got := append(m.Before("ext4"), m.Before("none")...); len(got) > 0 {
		t.Errorf("%q", got)
	}
}
