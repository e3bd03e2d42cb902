package format

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/artefact"
	"herdbook/internal/artefact/artefacttest"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/peer"
	"herdbook/internal/target"
)

// image is one of some size, most of it holes.
func image(t *testing.T, size int64) *artefact.Image {
	t.Helper()
	tree := t.TempDir()
	for name, content := range map[string]string{"etc/os-release": "ID=debian\nPRETTY_NAME=Small\n", "etc/hosts": "127.0.0.1 localhost\n"} {
		peer.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(tree, name)), 0o755))
		peer.Must(t, os.WriteFile(filepath.Join(tree, name), []byte(content), 0o644))
	}
	program, err := os.ReadFile("/bin/busybox")
	peer.Must(t, err)
	peer.Must(t, os.MkdirAll(filepath.Join(tree, "bin"), 0o755))
	peer.Must(t, os.WriteFile(filepath.Join(tree, "bin/sh"), program, 0o755))
	raw := filepath.Join(t.TempDir(), "disk")
	peer.Run(t, "mke2fs", "-q", "-t", "ext4", "-d", tree, raw, fmt.Sprintf("%dk", size>>10))
	return artefacttest.Image(t, raw)
}

func exporter(t *testing.T, kind string) *Exporter {
	t.Helper()
	made, ok := target.New(kind, "small")
	if !ok {
		t.Fatalf("there is no target %q", kind)
	}
	return &Exporter{*made.(*target.Format)}
}

func TestSuite(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "mke2fs", "busybox")
	of := map[string]*artefact.Image{"gce": image(t, gib)} // which takes nothing smaller
	for kind, format := range map[string]string{"raw": "raw", "qcow2": "qcow2", "vmdk": "vmdk", "vhd": "vpc", "gce": "", "ami": "raw"} {
		t.Run(kind, func(t *testing.T) {
			small, e := of[kind], exporter(t, kind)
			if small == nil {
				small = image(t, 64*mib)
			}
			artefacttest.Suite(t, small, &e.Format, e)
			order := artefacttest.Order(t, small, &e.Format, e)
			m, err := order.Make(t.Context(), small, nil)
			peer.Must(t, err)
			main := filepath.Join(order.Dir, m.Main)
			if kind == "gce" {
				main, format = unpack(t, main), "raw"
			}
			// QEMU reads the same out of both.
			peer.Run(t, "qemu-img", "compare", "-f", "qcow2", "-F", format, small.Path(), main)
			if told := peer.Run(t, "qemu-img", "info", "--output", "json", "-f", format, main); !strings.Contains(told, fmt.Sprintf(`"virtual-size": %d,`, small.Disk.Size())) {
				t.Errorf("its size: %s", told)
			}
			if format == "qcow2" {
				peer.Run(t, "qemu-img", "check", "-f", format, main)
			}
		})
	}
}

// unpack takes disk.raw out of an archive.
func unpack(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	peer.Must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	peer.Must(t, err)
	in := tar.NewReader(z)
	h, err := in.Next()
	peer.Must(t, err)
	if h.Name != "disk.raw" || h.Format != tar.FormatGNU {
		t.Errorf("the member: %+v", h)
	}
	raw := filepath.Join(t.TempDir(), "disk.raw")
	out, err := os.Create(raw)
	peer.Must(t, err)
	_, err = io.Copy(out, in)
	peer.Must(t, errors.Join(err, out.Close()))
	if _, err := in.Next(); err != io.EOF {
		t.Errorf("another member: %v", err)
	}
	return raw
}

func TestTheFilesHaveHoles(t *testing.T) {
	small, e := image(t, 256*mib), exporter(t, "raw")
	order := artefacttest.Order(t, small, &e.Format, e)
	_, err := order.Make(t.Context(), small, nil)
	peer.Must(t, err)
	var blocks int64
	_, err = fmt.Sscan(peer.Run(t, "stat", "-c", "%b", filepath.Join(order.Dir, "small.raw")), &blocks)
	if peer.Must(t, err); blocks*512 > 32*mib {
		t.Errorf("%d bytes are on the disk", blocks*512)
	}
}

func TestZlibIsWhatOldReadersKnow(t *testing.T) {
	small := image(t, 64*mib)
	for _, compression := range []string{"zstd", "zlib", "none"} {
		e := exporter(t, "qcow2")
		e.Compression = compression
		order := artefacttest.Order(t, small, &e.Format, e)
		m, err := order.Make(t.Context(), small, nil)
		peer.Must(t, err)
		told := peer.Run(t, "qemu-img", "info", filepath.Join(order.Dir, m.Main))
		if want := map[string]string{"zstd": "zstd", "zlib": "zlib", "none": "zlib"}[compression]; !strings.Contains(told, "compression type: "+want) {
			t.Errorf("%s:\n%s", compression, told)
		}
	}
}

func TestASizeThatAPlaceDoesNotTake(t *testing.T) {
	for kind, size := range map[string]int64{"vhd": 33*mib + 4096, "gce": gib + 64*mib} {
		odd, e := image(t, size), exporter(t, kind)
		order := artefacttest.Order(t, odd, &e.Format, e)
		_, err := order.Make(t.Context(), odd, nil)
		if err == nil || !strings.Contains(err.Error(), "whole ") || !strings.Contains(err.Error(), "herdbook resize") {
			t.Errorf("%s: %v", kind, err)
		}
		if entries, err := os.ReadDir(order.Dir); err != nil || len(entries) > 0 {
			t.Errorf("%s leaves %v, %v", kind, entries, err)
		}
	}
}

// The geometry that the specification's appendix gives, and its limits.
func TestGeometry(t *testing.T) {
	for total, want := range map[int64][3]int64{
		32 * mib / 512:  {963, 4, 17},
		gib / 512:       {2080, 16, 63},
		65535*16*63 - 1: {65534, 16, 63},
		65535 * 16 * 63: {16191, 16, 255},
		1 << 40:         {65535, 16, 255},
		500 * mib / 512: {1015, 16, 63},
	} {
		c, h, s := geometry(total)
		if got := [3]int64{int64(c), int64(h), int64(s)}; got != want {
			t.Errorf("%d sectors: %v, want %v", total, got, want)
		}
	}
}

// The script goes through with an aws that answers as Amazon's does.
func TestTheCommandsOfAmazon(t *testing.T) {
	small, e := image(t, 64*mib), exporter(t, "ami")
	order := artefacttest.Order(t, small, &e.Format, e)
	_, err := order.Make(t.Context(), small, nil)
	peer.Must(t, err)
	bin := t.TempDir()
	peer.Must(t, os.WriteFile(filepath.Join(bin, "aws"), []byte(`#!/bin/sh
echo "$*" >>"$LOG"
case "$1 $2" in
"ec2 import-snapshot") echo import-1 ;;
"ec2 describe-import-snapshot-tasks") echo snap-1 ;;
esac
`), 0o755))
	log := filepath.Join(bin, "log")
	peer.Run(t, "env", "PATH="+bin+":/usr/bin:/bin", "LOG="+log, "BUCKET=herd", "sh", filepath.Join(order.Dir, "small.ami.sh"))
	text, err := os.ReadFile(log)
	peer.Must(t, err)
	for _, want := range []string{"s3 cp small.ami.raw s3://herd/small-", "--import-task-ids import-1", "SnapshotId=snap-1", "--architecture x86_64", "s3 rm s3://herd/small-"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if out := peer.Run(t, "sh", "-c", "cd "+order.Dir+"; env -u BUCKET sh small.ami.sh 2>&1 || echo status $?"); !strings.Contains(out, "say which bucket") {
		t.Errorf("without a bucket: %s", out)
	}
}

func TestOnlyQCOW2HasAChoiceOfCompression(t *testing.T) {
	for kind, c := range map[string]struct {
		compression string
		good        bool
	}{"qcow2": {"zlib", true}, "raw": {"", true}, "vhd": {"zstd", false}} {
		e := exporter(t, kind)
		e.Compression = c.compression
		if problems := e.Check(); (len(problems) == 0) != c.good {
			t.Errorf("%s: %v", kind, problems)
		}
	}
	e := exporter(t, "qcow2")
	e.Compression = "lzma"
	if len(e.Check()) != 1 {
		t.Error("lzma is taken")
	}
}

// Another target of the same image, such as a virtual machine of Incus, takes the same
// bytes: they are made once.
func TestTheDiskIsCompressedOnce(t *testing.T) {
	small, e := image(t, 64*mib), exporter(t, "qcow2")
	for _, want := range []int{1, 0} {
		phases := 0
		_, err := artefacttest.Order(t, small, &e.Format, e).Make(t.Context(), small, func(e event.Event) {
			if e.Kind == event.Phase && e.Text == "compress the disk" {
				phases++
			}
		})
		if peer.Must(t, err); phases != want {
			t.Errorf("it is compressed %d times, want %d", phases, want)
		}
	}
}

func TestCommandsOfClouds(t *testing.T) {
	for name, want := range map[string]string{"web": "create web ", "debian-12.5_x": "create debian-12-5-x ", "9front": "create image-9front ", "web.": "create web "} {
		if got := googleCommands(name)[1]; !strings.Contains(got, want) || !strings.Contains(got, "/"+name+".gce.tar.gz ") {
			t.Errorf("%s: %s", name, got)
		}
	}
	for want, mounts := range map[string][]inspection.Mount{"V1": {{Type: "ext4"}}, "V2": {{Type: "ext4"}, {Type: "vfat"}}} {
		if got := azureCommands("web", &inspection.System{Mounts: mounts})[1]; !strings.Contains(got, "--hyper-v-generation "+want+" ") {
			t.Errorf("want %s: %s", want, got)
		}
	}
}
