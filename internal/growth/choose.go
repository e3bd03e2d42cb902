package growth

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"herdbook/internal/inspection"
)

// partitionName is a partition by its number, or as one of the names that kernels
// have for it.
var partitionName = regexp.MustCompile(`^(?:(?:[sv]d|hd|xvd)[a-z]+|(?:nvme\d+n|mmcblk)\d+p)?(\d+)$`)

// choose finds the mount that a person means: by where it is mounted, its partition
// (2, sda2, /dev/vda2) or its volume (vg/root, /dev/mapper/vg-root).
func choose(mounts []inspection.Mount, name string) (inspection.Mount, error) {
	if name == "" {
		return mounts[0], nil
	}
	short := strings.TrimPrefix(name, "/dev/")
	partition := 0
	if m := partitionName.FindStringSubmatch(short); m != nil {
		partition, _ = strconv.Atoi(m[1])
	}
	var known []string
	for _, m := range mounts {
		switch {
		case m.Dir == name,
			m.Device == "" && m.Partition > 0 && m.Partition == partition,
			m.Device != "" && (short == volumeName(m.Device) || short == "mapper/"+m.Device):
			return m, nil
		}
		on := fmt.Sprint("partition ", m.Partition)
		switch {
		case m.Device != "":
			on = "/dev/mapper/" + m.Device
		case m.Partition == 0:
			on = "the whole disk"
		}
		known = append(known, fmt.Sprintf("%s (%s)", m.Dir, on))
	}
	return inspection.Mount{}, fmt.Errorf("nothing that the system mounts is called %s; it mounts %s", name, strings.Join(known, ", "))
}
