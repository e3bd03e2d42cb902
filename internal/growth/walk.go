package growth

import (
	"errors"
	"fmt"
	"strings"

	"herdbook/internal/disk"
	"herdbook/internal/mapper"
)

// below is what lies below a file system.
type below struct {
	partition int // 0: the whole disk
	encrypted bool
	logical   *Logical
}

// walk goes from a file system to the partition below it.
type walk struct {
	devices    []mapper.Device // what one stands on comes before it
	partitions []disk.Partition
}

// down tells what a source stands on.
func (w walk) down(s mapper.Source) (below, error) {
	if s.Device == "" {
		return below{partition: s.Partition}, nil
	}
	for i, d := range w.devices {
		if d.Name != s.Device {
			continue
		}
		under := walk{w.devices[:i], w.partitions} // and so it ends
		switch {
		case strings.HasPrefix(d.UUID, "LVM-"):
			return under.logical(d)
		case strings.HasPrefix(d.UUID, "CRYPT-"):
			b, err := under.down(d.Table[0].Areas[0].Source)
			b.encrypted = true
			return b, err
		}
		return below{}, errors.New("it is on a RAID array, which herdbook cannot grow: mdadm can, on the running system")
	}
	return below{}, fmt.Errorf("there is no device %s", s.Device)
}

// logical tells what a logical volume stands on. Of several physical volumes it is
// the one that lies last on the disk: the others cannot grow.
func (w walk) logical(d mapper.Device) (below, error) {
	l := &Logical{Volume: volumeName(d.Name), Size: length(d)}
	var last below
	found := int64(-1)
	for _, t := range d.Table {
		if t.Type != mapper.Linear {
			return below{}, fmt.Errorf("logical volume %s is %s, and herdbook grows linear ones", l.Volume, t.Type)
		}
		b, err := w.down(t.Areas[0].Source)
		if err != nil {
			return below{}, err
		}
		if b.logical != nil {
			return below{}, fmt.Errorf("logical volume %s lies on another one, which herdbook does not grow", l.Volume)
		}
		if start := w.start(b.partition); start > found {
			last, found, l.Physical = b, start, t.Areas[0].Source
		}
	}
	last.logical = l
	return last, nil
}

// start is where a partition begins.
func (w walk) start(number int) int64 {
	for _, p := range w.partitions {
		if p.Number == number {
			return p.Start
		}
	}
	return 0
}

// volumeName is the name of a logical volume, as group/volume, of which the device
// is called so: a - stands between the two, and -- for each that they have.
func volumeName(device string) string {
	return strings.ReplaceAll(strings.Replace(strings.ReplaceAll(device, "--", "\x00"), "-", "/", 1), "\x00", "-")
}
