package workshop

import (
	"crypto/rand"
	"fmt"
	"slices"

	"herdbook/internal/disk"
	"herdbook/internal/inspection"
	"herdbook/internal/op"
	"herdbook/internal/uuid"
)

// renewed chooses new identifiers for what sysprep is to give others. They are random:
// what is made twice of one definition is to differ in them.
func (s Session) renewed(system *inspection.System) ([]uuid.Change, error) {
	does := func(name string) bool {
		return slices.ContainsFunc(s.Job.Operations, func(o op.Envelope) bool {
			sysprep, ok := o.Operation.(*op.Sysprep)
			return ok && sysprep.Does(name)
		})
	}
	list, err := volumeUUIDs(system, does("fs-uuids"), does("lvm-uuids"))
	if err != nil {
		return nil, err
	}
	if err := uuid.Renew(list, rand.Reader); err != nil {
		return nil, fmt.Errorf("sysprep: %w", err)
	}
	system.Reach(list)
	return list, nil
}

func volumeUUIDs(system *inspection.System, fileSystems, lvm bool) (list []uuid.Change, err error) {
	if fileSystems {
		if list, err = system.FileSystemUUIDs(); err != nil {
			return nil, fmt.Errorf("sysprep fs-uuids: %w", err)
		}
	}
	if lvm {
		volumes, err := system.LVMUUIDs()
		if err != nil {
			return nil, fmt.Errorf("sysprep lvm-uuids: %w; without this operation the rest is done", err)
		}
		list = append(list, volumes...)
	}
	return list, nil
}

// verify looks at the disk anew: it must have the new identifiers, and the system's fstab
// must find what it wants by them.
func (s Session) verify(renewed []uuid.Change) error {
	if len(renewed) == 0 {
		return nil
	}
	image, err := disk.Open(s.Disk, disk.QCOW2)
	if err != nil {
		return fmt.Errorf("verify new identifiers: %w", err)
	}
	defer image.Close()
	system, err := inspection.Disk(image, image.Size(), s.Keys...)
	if err != nil {
		return fmt.Errorf("verify new identifiers: %w", err)
	}
	ofLVM := func(id uuid.Change) bool { return id.Type.OfLVM() }
	ofFileSystem := func(id uuid.Change) bool { return !id.Type.OfLVM() }
	have, err := volumeUUIDs(system, slices.ContainsFunc(renewed, ofFileSystem), slices.ContainsFunc(renewed, ofLVM))
	if err != nil {
		return fmt.Errorf("verify new identifiers: %w", err)
	}
	for _, id := range renewed {
		found := slices.ContainsFunc(have, func(h uuid.Change) bool { return h.Type == id.Type && h.Old == id.New })
		if !found {
			return fmt.Errorf("verify new identifiers: the %s that was %s is not %s", id.Type, id.Old, id.New)
		}
	}
	return nil
}
