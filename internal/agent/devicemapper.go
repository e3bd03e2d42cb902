package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"herdbook/internal/mapper"
)

// Commands of device-mapper: ioctls of linux/dm-ioctl.h, by the size of their
// struct dm_ioctl.
const (
	dmIoctl   = 3<<30 | dmSize<<16 | 0xfd<<8
	dmCreate  = dmIoctl | 3
	dmRemove  = dmIoctl | 4
	dmSuspend = dmIoctl | 6 // without its flag, it resumes
	dmLoad    = dmIoctl | 9
)

// Fields of struct dm_ioctl, and of struct dm_target_spec: where they begin, in
// bytes. Numbers are in the machine's order.
const (
	dmSize     = 312
	dmDataSize = 12
	dmData     = 16 // where what follows the struct begins
	dmTargets  = 20
	dmFlags    = 28
	dmDev      = 40
	dmName     = 48
	dmUUID     = 176

	targetSize   = 40
	targetLength = 8
	targetNext   = 20
	targetType   = 24
)

const (
	dmReadOnly = 1 << 0
	dmSecure   = 1 << 15 // the kernel wipes its copy, which may hold a key
)

// devices are those that were made of the image.
type devices struct {
	control *os.File
	made    []string // names, in order
}

// makeDevices has the kernel make devices that stand on a disk. The caller removes
// them once nothing is mounted any more.
func makeDevices(disk string, list []mapper.Device) (*devices, error) {
	d := &devices{}
	if len(list) == 0 {
		return d, nil
	}
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("reach device-mapper: %w", err)
	}
	d.control = control
	for _, device := range list {
		if err := d.make(disk, device); err != nil {
			return nil, errors.Join(fmt.Errorf("make device %s: %w", device.Name, err), d.remove())
		}
	}
	return d, nil
}

// make makes one device, with a link in /dev/mapper to its node.
func (d *devices) make(disk string, device mapper.Device) error {
	request := newRequest(device.Name, 0)
	copy(request[dmUUID:dmUUID+128], device.UUID)
	if err := d.ask(dmCreate, request); err != nil {
		return err
	}
	d.made = append(d.made, device.Name)
	number := binary.NativeEndian.Uint64(request[dmDev:])
	if err := d.ask(dmLoad, tableRequest(disk, device)); err != nil {
		return fmt.Errorf("load its table: %w", err)
	}
	if err := d.ask(dmSuspend, newRequest(device.Name, 0)); err != nil {
		return fmt.Errorf("start it: %w", err)
	}
	minor := number&0xff | number>>12&0xfff00
	if err := os.Symlink(fmt.Sprint("../dm-", minor), filepath.Join("/dev/mapper", device.Name)); err != nil {
		return fmt.Errorf("name it: %w", err)
	}
	return nil
}

// remove removes the devices, the last one first.
func (d *devices) remove() error {
	if d.control == nil {
		return nil
	}
	var errs []error
	for i := len(d.made) - 1; i >= 0; i-- {
		err := d.ask(dmRemove, newRequest(d.made[i], 0))
		if err == nil { // the same name may be wanted again, for another device
			err = os.Remove(filepath.Join("/dev/mapper", d.made[i]))
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove device %s: %w", d.made[i], err))
		}
	}
	return errors.Join(append(errs, d.control.Close())...)
}

func (d *devices) ask(command uintptr, request []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.control.Fd(), command, uintptr(unsafe.Pointer(&request[0])))
	if errno != 0 {
		return errno
	}
	return nil
}

// newRequest makes a struct dm_ioctl with room for more behind it.
func newRequest(name string, more int) []byte {
	p := make([]byte, dmSize+more)
	ne := binary.NativeEndian
	ne.PutUint32(p, 4) // version 4.0 of the interface, which every kernel since 2.6 has
	ne.PutUint32(p[dmDataSize:], uint32(len(p)))
	ne.PutUint32(p[dmData:], dmSize)
	copy(p[dmName:dmName+127], name)
	return p
}

// tableRequest is the request to load a device's table. It may hold keys.
func tableRequest(disk string, device mapper.Device) []byte {
	var rows []byte
	ne := binary.NativeEndian
	for _, t := range device.Table {
		parameters := t.Parameters(func(s mapper.Source) string { return node(disk, s) })
		row := make([]byte, (targetSize+len(parameters)+1+7)&^7)
		ne.PutUint64(row, uint64(t.Start))
		ne.PutUint64(row[targetLength:], uint64(t.Length))
		ne.PutUint32(row[targetNext:], uint32(len(row)))
		copy(row[targetType:targetType+15], t.Type)
		copy(row[targetSize:], parameters)
		rows = append(rows, row...)
	}
	request := newRequest(device.Name, len(rows))
	copy(request[dmSize:], rows)
	ne.PutUint32(request[dmTargets:], uint32(len(device.Table)))
	flags := uint32(dmSecure)
	if device.ReadOnly {
		flags |= dmReadOnly
	}
	ne.PutUint32(request[dmFlags:], flags)
	return request
}

// node is the device node of a source.
func node(disk string, s mapper.Source) string {
	switch {
	case s.Device != "":
		return "/dev/mapper/" + s.Device
	case s.Partition == 0:
		return disk
	}
	return disk + strconv.Itoa(s.Partition)
}
