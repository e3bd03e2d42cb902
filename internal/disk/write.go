package disk

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
)

// Apply makes writes to the disk in a qcow2 image, in their order. On an error some
// may have been made: it is for overlays, which can be thrown away.
func Apply(ctx context.Context, path string, writes []Write) error {
	absolute, err := filepath.Abs(path)
	if err == nil && len(writes) > 0 {
		err = qemuIO(ctx, absolute, patterns(writes))
	}
	if err != nil {
		return fmt.Errorf("write to disk image %s: %w", path, err)
	}
	return nil
}

// patterns are the commands of qemu-io that write, one for each run of equal bytes:
// it takes others from files only, in whose names a space is none.
func patterns(writes []Write) *bytes.Buffer {
	var commands bytes.Buffer
	for _, w := range writes {
		for at := 0; at < len(w.Bytes); {
			run := 1
			for at+run < len(w.Bytes) && w.Bytes[at+run] == w.Bytes[at] {
				run++
			}
			fmt.Fprintf(&commands, "write -q -P %d %d %d\n", w.Bytes[at], w.Offset+int64(at), run)
			at += run
		}
	}
	return &commands
}
