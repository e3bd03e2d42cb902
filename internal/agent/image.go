package agent

import (
	"errors"

	"herdbook/internal/mapper"
	"herdbook/internal/wire"
)

// image is the disk that is worked on, as the kernel has it.
type image struct {
	disk    string // its node
	devices []mapper.Device
	mounts  []wire.Mount

	made  *devices     // nil while there are none
	leave func() error // nil while nothing is mounted
}

// mount makes the devices, if they are not there, and mounts the file systems.
func (i *image) mount() (err error) {
	if i.made == nil {
		if i.made, err = makeDevices(i.disk, i.devices); err != nil {
			return err
		}
	}
	i.leave, err = mountImage(i.disk, i.mounts)
	return err
}

// unmount ends all that could hold a file system, and unmounts them.
func (i *image) unmount() error {
	if i.leave == nil {
		return nil
	}
	leave := i.leave
	i.leave = nil
	// What cannot be ended is no reason to leave what can be unmounted.
	return errors.Join(killOthers(), leave())
}

// remove removes the devices.
func (i *image) remove() error {
	if i.made == nil {
		return nil
	}
	made := i.made
	i.made = nil
	return made.remove()
}
