package workshop

import (
	"strings"
	"testing"

	"herdbook/internal/disk"
	"herdbook/internal/inspection"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/uuid"
	"herdbook/internal/wire"
)

// Every identifier is another one afterwards, and the system still works.
func TestVMNewUUIDs(t *testing.T) {
	_, err := Agent()
	peer.Need(t, err == nil, "the agent is not built: make build")
	for _, c := range []struct {
		name     string
		programs []string
		make     func(t *testing.T, g guest) string
	}{
		{"LVM", []string{"tune2fs", "e2fsck"}, onLVM},
		{"XFS", []string{"xfs_db"}, func(t *testing.T, g guest) string {
			return makeDisk(t, "gpt", part{mib: 400, format: "xfs", tree: g.dir}, part{mib: 40, format: "vfat"})
		}},
		{"btrfs", []string{"btrfstune"}, func(t *testing.T, g guest) string {
			return makeDisk(t, "gpt", part{mib: 400, format: "btrfs", tree: g.dir})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGuest(t, "")
			g.write(t, "etc/fstab", "")
			if c.name == "btrfs" {
				g.write(t, "etc/fstab", "/dev/vda1 / btrfs subvol=root\n")
			}
			for _, program := range c.programs {
				g.addProgram(t, program)
			}
			path := c.make(t, g)
			before := uuidsOf(t, path)
			do(t, path, wire.Job{Operations: []op.Envelope{{Operation: &op.Sysprep{Enable: []string{"fs-uuids", "lvm-uuids"}}}}})
			after := uuidsOf(t, path)
			if len(after) != len(before) || len(before) == 0 {
				t.Fatalf("%d identifiers became %d", len(before), len(after))
			}
			for _, a := range after {
				for _, b := range before {
					if a.Type == b.Type && a.Old == b.Old {
						t.Errorf("the %s is still %s", a.Type, a.Old)
					}
				}
			}
			if got := work(t, path, "#!/bin/sh\ncat /etc/os-release\n"); !strings.Contains(got, "A small one") {
				t.Errorf("it says %q", got)
			}
		})
	}
}

// uuidsOf lists the identifiers of a disk.
func uuidsOf(t *testing.T, path string) []uuid.Change {
	t.Helper()
	image, err := disk.Open(path, disk.QCOW2)
	peer.Must(t, err)
	defer image.Close()
	system, err := inspection.Disk(image, image.Size())
	peer.Must(t, err)
	list, err := volumeUUIDs(system, true, true)
	peer.Must(t, err)
	return list
}
