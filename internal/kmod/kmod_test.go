package kmod_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"herdbook/internal/kmod"
	"herdbook/internal/kmod/kmodtest"
	"herdbook/internal/peer"
)

func TestModulesComeAfterWhatTheyNeed(t *testing.T) {
	m := kmodtest.Read(t, kmodtest.Tree(t))
	for _, c := range []struct {
		required, optional []string
		want               string
	}{
		{nil, nil, ""},
		{[]string{"virtio_blk"}, nil, "virtio_ring virtio virtio_blk"},
		{[]string{"virtio_pci", "virtio_blk"}, nil, "virtio_ring virtio virtio_pci_modern_dev virtio_pci virtio_blk"},
		{[]string{"virtio_console", "vfat"}, nil, ""}, // both are built in
		{[]string{"ext4"}, []string{"crc32c-intel", "crc32c_generic", "nls_iso8859-1", "nls_utf8"}, "crc32c_intel nls_iso8859_1 jbd2 crc16 ext4"},
		{[]string{"crc32c_intel", "crc32c-intel"}, nil, "crc32c_intel"}, // - is _
	} {
		files, err := m.Order(c.required, c.optional)
		if got := strings.Join(kmodtest.Names(files), " "); err != nil || got != c.want {
			t.Errorf("%v, %v: %s, %v, want %s", c.required, c.optional, got, err, c.want)
		}
	}
}

func TestHas(t *testing.T) {
	m := kmodtest.Read(t, kmodtest.Tree(t))
	for name, want := range map[string]bool{"ext4": true, "crc32c-intel": true, "crc32c_intel": true, "vfat": true, "squashfs": false, "": false} {
		if got := m.Has(name); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
}

// decompress reads a module out of a file.
func decompress(t testing.TB, name string, p []byte) ([]byte, error) {
	t.Helper()
	tree := fstest.MapFS{kmodtest.Dir + "/modules.dep": {}, kmodtest.Dir + "/" + name: {Data: p}}
	return kmodtest.Read(t, tree).Content(name)
}

func TestDecompress(t *testing.T) {
	content := bytes.Repeat([]byte("a module, not quite at random "), 10000)
	for name, p := range map[string][]byte{
		"a.ko": content, "a.ko.xz": kmodtest.Compressed(t, "xz", content), "b.ko.xz": kmodtest.Compressed(t, "xz", content, "--check=none", "-0"),
		"a.ko.gz": kmodtest.Compressed(t, "gzip", content), "a.ko.zst": kmodtest.Compressed(t, "zstd", content, "-q"), "b.ko.zst": kmodtest.Compressed(t, "zstd", content, "-q", "--ultra", "-22", "--no-check", fmt.Sprintf("--stream-size=%d", len(content))),
		"a two.ko.xz": kmodtest.Compressed(t, "xz", content, "--block-size=100000"),
	} {
		got, err := decompress(t, name, p)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if name == "a.ko" {
			continue
		}
		for n := range p {
			if got, err := decompress(t, name, p[:n]); err == nil {
				t.Errorf("%s, the first %d of %d bytes: %d bytes and no error", name, n, len(p), len(got))
			}
		}
		for _, at := range []int{0, 3, len(p) / 2} {
			spoiled := slices.Clone(p)
			spoiled[at] ^= 0x55
			if got, err := decompress(t, name, spoiled); err == nil && strings.HasSuffix(name, "a.ko.xz") {
				t.Errorf("%s, byte %d changed: %d bytes and no error", name, at, len(got))
			}
		}
		if _, err := decompress(t, name, []byte("what is this?")); err == nil {
			t.Errorf("%s: any text will do", name)
		}
	}
}

// A module of some KiB that becomes some GiB is stopped at the limit.
func TestDecompressionBombs(t *testing.T) {
	const limit = 64 << 20 // bytes of a module
	zeros := make([]byte, limit+1)
	var gz bytes.Buffer
	w, err := gzip.NewWriterLevel(&gz, gzip.BestSpeed)
	peer.Must(t, err)
	_, err = w.Write(zeros)
	peer.Must(t, errors.Join(err, w.Close()))
	want := fmt.Sprintf("more than %d bytes", limit)
	for name, p := range map[string][]byte{"a.ko.gz": gz.Bytes(), "a.ko.xz": kmodtest.Compressed(t, "xz", zeros, "-0"), "a.ko.zst": kmodtest.Compressed(t, "zstd", zeros, "-q")} {
		if got, err := decompress(t, name, p); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "decompress module "+name) {
			t.Errorf("%s: %d bytes, %v, want %q", name, len(got), err, want)
		}
	}
	// A zstd frame that wants a window of GiB.
	long := kmodtest.Compressed(t, "zstd", zeros[:1<<20], "-q", "--long=31", "--ultra", "-1", "--no-content-size")
	if got, err := decompress(t, "a.ko.zst", long); err == nil && len(got) != 1<<20 {
		t.Errorf("a large window: %d bytes", len(got))
	}
}

func TestHardwareFindsItsModule(t *testing.T) {
	tree := kmodtest.Tree(t)
	tree[kmodtest.Dir+"/modules.alias"] = &fstest.MapFile{Data: []byte("# Aliases\nalias virtio:d00000001v* virtio-net\nalias short\n")}
	m := kmodtest.Read(t, tree)
	got, err := m.Aliases()
	if err != nil || !slices.Equal(got, []kmod.Alias{{Pattern: "virtio:d00000001v*", Module: "virtio_net"}}) {
		t.Errorf("%v, %v", got, err)
	}
	if got := m.Below("drivers/net"); !slices.Equal(got, []string{"net_failover", "virtio_net"}) {
		t.Errorf("drivers: %v", got)
	}
	if got, err := kmodtest.Read(t, kmodtest.Tree(t)).Aliases(); err != nil || got != nil {
		t.Errorf("without a list: %v, %v", got, err)
	}
}
