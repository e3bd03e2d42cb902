package artefact

import (
	"fmt"
	"os"

	"herdbook/internal/inspection"
	"herdbook/internal/ovf"
)

// FitsOVF tells why a system cannot start in the machine that an OVF of ours describes,
// nil if it can.
func FitsOVF(s *inspection.System) error {
	if s.Architecture != "amd64" {
		return fmt.Errorf("the machine is one for amd64, and the image is for %s", s.Architecture)
	}
	return s.Drives("the machine's disk and network", ovf.Modules()...)
}

// OVF is the descriptor of a machine with the disk of the image, which is a VMDK at path.
// What the image does not decide stands in m.
func (i *Image) OVF(path string, m ovf.Machine) (string, error) {
	stat, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	release := i.System.Release
	m.Name, m.System, m.MAC = i.Name, ovf.SystemOf(release.ID), ovf.MAC(i.ID())
	m.Annotation = fmt.Sprintf("%s, layer %s of herdbook", release.PrettyName, i.Layer)
	m.Disk.Size, m.Disk.Capacity, m.Disk.UUID = stat.Size(), i.Disk.Size(), ovf.UUID(i.ID())
	text, err := m.Text()
	return string(text), err
}
