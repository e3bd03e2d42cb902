package sysprep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"herdbook/internal/event"
	"herdbook/internal/guest"
	"herdbook/internal/uuid"
)

// Change gives the volumes of an unmounted disk their new identifiers. The runner has the
// programs that BringTools brought; node gives the device node of what has an identifier. Physical
// volumes come last: what lies on them is then done.
func Change(ctx context.Context, runner guest.Runner, sink event.Sink, list []uuid.Change, node func(uuid.Change) string) error {
	ordered := slices.Clone(list)
	slices.SortStableFunc(ordered, func(a, b uuid.Change) int {
		rank := map[bool]int{true: 1}
		return rank[a.Type.OfLVM()] - rank[b.Type.OfLVM()]
	})
	for _, id := range ordered {
		var err error
		switch id.Type {
		case uuid.VolumeGroup: // written with its physical volumes
		case uuid.Ext, uuid.XFS, uuid.Btrfs:
			err = byProgram(ctx, runner, id, node(id))
		default:
			err = byHand(id, list, node(id))
		}
		if err != nil {
			return fmt.Errorf("sysprep: change the identifier of %s (%s): %w", id.Source, id.Type, err)
		}
		sink.Emit(event.Event{Kind: event.Log, Stream: event.Agent, Text: fmt.Sprintf("%s %s is %s now", id.Type, id.Old, id.New)})
	}
	return nil
}

// byHand writes the identifier itself.
func byHand(id uuid.Change, all []uuid.Change, node string) (err error) {
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	return errors.Join(uuid.Write(f, size, id, all), f.Sync())
}

// byProgram has the file system's own program change it.
func byProgram(ctx context.Context, runner guest.Runner, id uuid.Change, node string) error {
	var commands []guest.Command
	switch id.Type {
	case uuid.Ext:
		commands = []guest.Command{
			// tune2fs rewrites checksums only of a file system that was just checked.
			{Args: []string{"e2fsck", "-f", "-p", node}, Good: []int{1}},
			{Args: []string{"tune2fs", "-U", id.New, node}},
		}
	case uuid.XFS:
		// What xfs_admin does; it is a script.
		commands = []guest.Command{{Args: []string{"xfs_db", "-x", "-p", "xfs_admin", "-c", "uuid " + id.New, node}}}
	case uuid.Btrfs:
		commands = []guest.Command{{Args: []string{"btrfstune", "-f", "-U", id.New, node}}}
	}
	for _, c := range commands {
		if err := guest.Must(ctx, runner, c); err != nil {
			return err
		}
	}
	return nil
}
