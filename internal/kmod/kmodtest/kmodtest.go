// Package kmodtest has the modules of a small kernel. Only tests import it.
package kmodtest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io/fs"
	"os/exec"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"herdbook/internal/kmod"
	"herdbook/internal/peer"
)

// Dir is where the modules of Tree are.
const Dir = "lib/modules/6.1.0-9-amd64"

// dependencies is a modules.dep: what a module needs stands behind it, to be
// loaded from the last to the first.
const dependencies = `kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_pci_modern_dev.ko.xz kernel/drivers/virtio/virtio.ko.gz kernel/drivers/virtio/virtio_ring.ko.zst
kernel/drivers/virtio/virtio_pci_modern_dev.ko.xz:
kernel/drivers/virtio/virtio.ko.gz: kernel/drivers/virtio/virtio_ring.ko.zst
kernel/drivers/virtio/virtio_ring.ko.zst:
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko.gz kernel/drivers/virtio/virtio_ring.ko.zst
kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko
kernel/drivers/net/net_failover.ko:
kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/jbd2/jbd2.ko
kernel/lib/crc16.ko:
kernel/fs/jbd2/jbd2.ko:
kernel/arch/x86/crypto/crc32c-intel.ko:
kernel/fs/nls/nls_iso8859-1.ko:
kernel/other/unused.ko: kernel/other/missing.ko
not a line of it
`

const builtin = "kernel/drivers/char/virtio_console.ko\nkernel/fs/fat/vfat.ko\n"

// Compressed compresses with the real tool.
func Compressed(t testing.TB, tool string, content []byte, args ...string) []byte {
	t.Helper()
	peer.NeedTool(t, tool)
	cmd := exec.Command(tool, append(args, "-c")...)
	cmd.Stdin = bytes.NewReader(content)
	out, err := cmd.Output()
	peer.Must(t, err)
	return out
}

// Tree is a small /lib/modules; every module's content is its name.
func Tree(t testing.TB) fstest.MapFS {
	t.Helper()
	tree := fstest.MapFS{
		Dir + "/modules.dep":     {Data: []byte(dependencies)},
		Dir + "/modules.builtin": {Data: []byte(builtin)},
	}
	for line := range strings.Lines(dependencies) {
		file, _, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		content := []byte("content of " + kmod.Name(file))
		switch path.Ext(file) {
		case ".xz":
			content = Compressed(t, "xz", content, "--check=crc32", "--lzma2=dict=2MiB") // as the kernel's build does
		case ".zst":
			content = Compressed(t, "zstd", content, "-19")
		case ".gz":
			content = Compressed(t, "gzip", content, "-9n")
		}
		tree[Dir+"/"+file] = &fstest.MapFile{Data: content}
	}
	return tree
}

// Read reads the modules of a tree like Tree's.
func Read(t testing.TB, tree fs.FS) *kmod.Modules {
	t.Helper()
	m, err := kmod.Read(tree, Dir)
	peer.Must(t, err)
	return m
}

// Names are the names of modules' files.
func Names(files []string) []string {
	var list []string
	for _, file := range files {
		list = append(list, kmod.Name(file))
	}
	return list
}

// Module makes a file of a module that has nothing but words of its section .modinfo, such
// as firmware=card/a.bin.
func Module(t testing.TB, info ...string) []byte {
	t.Helper()
	const names = "\x00.modinfo\x00.shstrtab\x00"
	var words string
	for _, w := range info {
		words += w + "\x00"
	}
	head := elf.Header64{Shoff: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2, Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: 64}
	copy(head.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	sections := []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: 256 + uint64(len(names)), Size: uint64(len(words)), Addralign: 1},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: 256, Size: uint64(len(names)), Addralign: 1},
	}
	var file bytes.Buffer
	peer.Must(t, errors.Join(binary.Write(&file, binary.LittleEndian, head), binary.Write(&file, binary.LittleEndian, sections)))
	file.WriteString(names + words)
	return file.Bytes()
}
