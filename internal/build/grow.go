package build

import (
	"context"
	"errors"
	"io"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/growth"
	"herdbook/internal/inspection"
	"herdbook/internal/volume"
	"herdbook/internal/wire"
	"herdbook/internal/workshop"
)

// Grow does what is planned for the disk of an alteration.
func (b *Builder) Grow(ctx context.Context, a Alteration, p *growth.Plan) error {
	return enlarge(ctx, a.Disk, a.Keys, p, func(g *wire.Grow) error {
		a.Job.Grow = g
		_, err := b.Alter(ctx, a)
		return err
	})
}

// grow makes the disk of a step larger.
func (r *run) grow(ctx context.Context, size int64, path, scratch string, sink event.Sink) (how string, err error) {
	var p *growth.Plan
	if err := inspected(path, nil, func(image *disk.Image, system *inspection.System) (err error) {
		p, err = growth.Make(image, image.Size(), system, growth.Request{Size: size}, inspect)
		return err
	}); err != nil {
		return "", err
	}
	session, err := r.session(ctx, path, scratch, sink)
	if err != nil {
		return "", err
	}
	session.Timeout = stepTimeout
	return string(session.Accelerator), enlarge(ctx, path, nil, p, func(g *wire.Grow) error {
		session.Job = wire.Job{Grow: g}
		_, err := workshop.Run(ctx, session)
		return err
	})
}

// enlarge makes disk and partition larger, has the rest done by work in the guest,
// and looks whether it was.
func enlarge(ctx context.Context, path string, keys []volume.Key, p *growth.Plan, work func(*wire.Grow) error) error {
	if err := disk.Resize(ctx, path, disk.QCOW2, p.After); err != nil {
		return err
	}
	if p.Partition != nil {
		if err := disk.Apply(ctx, path, p.Partition.Writes); err != nil {
			return err
		}
	}
	job := wire.Grow{Dir: p.Mount.Dir}
	if l := p.Logical; l != nil {
		job.Volume, job.Physical = l.Volume, l.Physical
	}
	if err := work(&job); err != nil {
		return err
	}
	return inspected(path, keys, func(_ *disk.Image, system *inspection.System) error { return p.Done(system) })
}

func inspect(r io.ReaderAt, size int64) (*inspection.System, error) { return inspection.Disk(r, size) }

// inspected looks at a qcow2 image and the system on it.
func inspected(path string, keys []volume.Key, look func(*disk.Image, *inspection.System) error) (err error) {
	image, err := disk.Open(path, disk.QCOW2)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, image.Close()) }()
	system, err := inspection.Disk(image, image.Size(), keys...)
	if err != nil {
		return err
	}
	return look(image, system)
}
