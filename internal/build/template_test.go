package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/peer"
	"herdbook/internal/pin"
	"herdbook/internal/plan"
)

// instance is an image of a template that is pinned to a file of this machine.
func instance(file string, p pin.Pin) *plan.Plan {
	p.URL, p.Checksum = "file://"+file, digest.Of(nil).Checksum()
	return &plan.Plan{Images: []plan.Image{{
		Image: definition.Image{Name: "web"},
		Steps: []plan.Step{{
			Step: definition.Step{Kind: plan.KindTemplate, Name: "debian-12", Position: "herdbook.hcl:1"}, Image: "web",
			Template: &plan.Template{Template: definition.Template{Image: "debian-12"}, Pin: p},
		}},
	}}}
}

// A file is what its index tells of it, packed or not, or there is no layer.
func TestTemplatesAreWhatTheIndexTells(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "xz")
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	text := make([]byte, 1<<20)
	copy(text[510:], "\x55\xaa") // a boot sector
	peer.Must(t, os.WriteFile(path("raw"), text, 0o644))
	peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", path("raw"), path("qcow2"))
	peer.Run(t, "xz", "-0", "-k", path("raw"), path("qcow2"))
	peer.Run(t, "truncate", "-s", "64M", path("bomb"))
	peer.Run(t, "xz", "-0", path("bomb"))
	peer.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", path("raw"), "-F", "raw", path("chained"))
	for _, c := range []struct {
		file, format string
		size         int64
		want         string // in the error; "" if it succeeds
	}{
		{"raw", "raw", 1 << 20, ""},
		{"raw.xz", "raw", 1 << 20, ""},
		{"raw.xz", "", 0, ""},
		{"qcow2", "qcow2", 1 << 20, ""},
		{"qcow2.xz", "qcow2", 1 << 20, ""},
		{"qcow2.xz", "qcow2", 2 << 20, ""}, // smaller is no danger
		{"qcow2", "raw", 1 << 20, "raw"},
		{"raw", "qcow2", 1 << 20, "qcow2"},
		{"qcow2", "qcow2", 1 << 19, "the disk has 1048576 bytes, more than the 524288 that the index of its repository tells"},
		{"bomb.xz", "raw", 1 << 20, "more than the limit"},
		{"chained", "qcow2", 1 << 20, "stands on another file"},
		{"none", "raw", 1 << 20, "no such file"},
	} {
		t.Run(c.file+" "+c.format, func(t *testing.T) {
			b := newBuilder(t, nil)
			b.Template = func(_ context.Context, template plan.Template, _ event.Sink) (string, error) {
				return strings.TrimPrefix(template.Pin.URL, "file://"), nil
			}
			layers, err := b.Build(t.Context(), instance(path(c.file), pin.Pin{Format: c.format, Size: c.size}))
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || len(layers) > 0 {
					t.Errorf("the error is %v, want %q in it", err, c.want)
				}
				return
			}
			peer.Must(t, err)
			image, err := disk.Open(b.Store.DiskPath(layers["web"]), disk.QCOW2)
			peer.Must(t, err)
			defer image.Close()
			sector := make([]byte, 512)
			if _, err := image.ReadAt(sector, 0); err != nil || image.Size() != 1<<20 || string(sector[510:]) != "\x55\xaa" {
				t.Errorf("the layer has %d bytes, its first sector ends with %x: %v", image.Size(), sector[510:], err)
			}
		})
	}
}

func TestATemplateThatCannotBeFetched(t *testing.T) {
	b := newBuilder(t, nil)
	b.Template = func(context.Context, plan.Template, event.Sink) (string, error) { return "", errors.New("no route") }
	_, err := b.Build(t.Context(), instance("/x", pin.Pin{}))
	var step *StepError
	if !errors.As(err, &step) || err.Error() != `image "web", template "debian-12" (herdbook.hcl:1): no route` {
		t.Errorf("the error is %v", err)
	}
}
