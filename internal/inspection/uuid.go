package inspection

import (
	"fmt"
	"slices"

	"herdbook/internal/uuid"
)

// FileSystemUUIDs are the UUIDs of all file systems and swap areas of the disk, mounted
// or not; they have no new ones yet. What cannot be had is an error, as it has one, too.
func (s *System) FileSystemUUIDs() ([]uuid.Change, error) {
	var list []uuid.Change
	for _, v := range s.volumes {
		if v.Err != nil {
			return nil, fmt.Errorf("%s: %w", v.Name, v.Err)
		}
		if v.uuid != "" { // of the others it is not known that they have any
			list = append(list, uuid.Change{Source: v.Source, Type: uuid.Type(v.kind), Old: v.uuid})
		}
	}
	return list, nil
}

// LVMUUIDs are the identifiers of all physical volumes and volume groups of LVM; they
// have no new ones yet.
func (s *System) LVMUUIDs() ([]uuid.Change, error) {
	var physical, groups []uuid.Change
	for _, p := range s.set.Physical {
		if p.Err != nil {
			return nil, p.Err
		}
		physical = append(physical, uuid.Change{Source: p.Source, Type: uuid.PhysicalVolume, Old: p.ID})
		known := slices.ContainsFunc(groups, func(g uuid.Change) bool { return g.Old == p.GroupID })
		if p.GroupID != "" && !known {
			groups = append(groups, uuid.Change{Type: uuid.VolumeGroup, Old: p.GroupID})
		}
	}
	return append(physical, groups...), nil
}

// Reach adds to Devices those that volumes with UUIDs lie on.
func (s *System) Reach(list []uuid.Change) { s.Devices = s.devices(list) }
