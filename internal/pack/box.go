package pack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"herdbook/internal/disk"
	"herdbook/internal/event"
)

// vagrantfile is what a box says of its machine: nothing but that it is one.
const vagrantfile = "Vagrant.configure(\"2\") do |config|\nend\n"

// Box writes a box for Vagrant's provider libvirt at dst, with the disk in a qcow2 file
// that stands on no other. The same file makes the same box. The format is that of
// vagrant-libvirt's boxes of version 1.
func Box(ctx context.Context, qcow2, dst string, sink event.Sink) (File, error) {
	sink.Emit(event.Event{Kind: event.Phase, Text: "box"})
	metadata, err := LibvirtMetadata(qcow2)
	if err != nil {
		return File{}, fmt.Errorf("pack %s as a box: %w", qcow2, err)
	}
	return Tar(ctx, []Member{{Name: "metadata.json", Text: metadata}, {Name: "Vagrantfile", Text: vagrantfile}, {Name: "box.img", Path: qcow2}}, dst, sink)
}

// LibvirtMetadata is what tells vagrant-libvirt of the disk in a box.
func LibvirtMetadata(qcow2 string) (string, error) {
	size, err := disk.VirtualSize(qcow2)
	gib := (size + 1<<30 - 1) >> 30
	return fmt.Sprintf("{\"provider\":\"libvirt\",\"format\":\"qcow2\",\"virtual_size\":%d}\n", gib), err
}

// Member is a file in a box or another archive: a text, or what lies at Path.
type Member struct {
	Name string
	Text string
	Path string
}

// Tar writes an archive of members at dst, in their order and without compression: what
// is large in it is compressed already.
func Tar(ctx context.Context, members []Member, dst string, sink event.Sink) (File, error) {
	f, err := write(ctx, dst, func(w io.Writer) error {
		out := tar.NewWriter(w)
		for _, m := range members {
			if err := m.write(ctx, out, sink); err != nil {
				return err
			}
		}
		return out.Close()
	})
	if err != nil {
		return File{}, fmt.Errorf("pack %s: %w", dst, err)
	}
	return f, nil
}

func (m Member) write(ctx context.Context, out *tar.Writer, sink event.Sink) (err error) {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: m.Name, Mode: 0o644, Size: int64(len(m.Text)), ModTime: time.Unix(0, 0)}
	if m.Path == "" {
		if err := out.WriteHeader(header); err != nil {
			return err
		}
		_, err := io.WriteString(out, m.Text)
		return err
	}
	in, err := os.Open(m.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	stat, err := in.Stat()
	if err != nil {
		return err
	}
	header.Size = stat.Size()
	if err := out.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.CopyBuffer(out, &passing{ctx, in, progress{sink: sink, total: stat.Size()}}, make([]byte, 1<<20))
	return err
}
