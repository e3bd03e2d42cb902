package build

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"herdbook/internal/cloudinit"
	"herdbook/internal/iso"
	"herdbook/internal/op"
	"herdbook/internal/plan"
	"herdbook/internal/workshop"
)

// seed gives the session of a cloud-init step the disc with its data, which goes with the
// scratch directory; of another step nothing.
func seed(step plan.Step, session *workshop.Session) error {
	o, ok := step.Operation.(*op.CloudInit)
	if !ok {
		return nil
	}
	content := cloudinit.Seed(o)
	var files []iso.File
	for _, name := range slices.Sorted(maps.Keys(content)) {
		files = append(files, iso.File{Name: name, Data: content[name]})
	}
	var disc bytes.Buffer
	if err := iso.Write(&disc, cloudinit.Volume, files); err != nil {
		return fmt.Errorf("make cloud-init's seed: %w", err)
	}
	// Machines want whole megabytes of a disk.
	disc.Write(make([]byte, -disc.Len()&(1<<20-1)))
	name := filepath.Join(session.Scratch, "seed.iso")
	if err := writeNew(name, disc.Bytes()); err != nil {
		return fmt.Errorf("make cloud-init's seed: %w", err)
	}
	session.Seed = name
	return nil
}
