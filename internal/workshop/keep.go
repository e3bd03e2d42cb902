package workshop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/machine"
	"herdbook/internal/wire"
)

// What a booted machine leaves in which a step has failed, in a directory beside its disk.
const (
	keptRecord = "machine.json" // what machine it was
	keptMemory = "memory.zst"   // its memory and devices, where they may lie on a disk
	keptFiles  = "files"        // its disk of files, if it had one
	keptSeed   = "seed"         // its disc for cloud-init, if it had one and goes on where it was
)

// How long saving a machine may take, and its end behind that.
const (
	keepTime = 10 * time.Minute
	quitTime = 2 * time.Minute
)

// kept is the record of a machine, which holds no secrets.
type kept struct {
	Machine  machine.Spec // but for the paths of its disks
	Protocol int          // that the agent in its memory speaks
}

// KeptWhole tells whether a directory has a machine that goes on where it was.
func KeptWhole(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, keptMemory))
	return err == nil
}

// keep leaves the machine in s.Keep: what it was, and, unless there are secrets in its
// memory, its state. The disk is the caller's, and is whole unless there is an error, which
// says that ctx has ended. That something is not kept is no second failure: it is told.
func (s Session) keep(ctx context.Context, m *machine.Machine, spec machine.Spec) error {
	if !s.Job.Stay {
		spec.Disks = slices.DeleteFunc(slices.Clone(spec.Disks), func(d machine.Disk) bool { return d.Serial == wire.SeedDisk })
	}
	err := s.record(spec)
	if err == nil && s.Job.Stay {
		s.Sink.Emit(event.Event{Kind: event.Phase, Text: "keep the machine as it is"})
		err = s.save(ctx, m)
	}
	switch {
	case ctx.Err() != nil: // it has been killed, with what of its disk was in its memory
		return context.Cause(ctx)
	case err != nil:
		s.notice(fmt.Sprintf("the machine cannot be kept as it is: %v; herdbook shell --failed boots its disk anew", err))
	case !s.Job.Stay:
		s.notice("the machine is not kept as it is, since there are secrets in its memory: herdbook shell --failed boots its disk anew")
	}
	if err = s.quit(ctx, m); s.Files != "" {
		err = errors.Join(err, os.Rename(s.Files, filepath.Join(s.Keep, keptFiles)))
	}
	if s.Seed != "" && s.Job.Stay {
		err = errors.Join(err, os.Rename(s.Seed, filepath.Join(s.Keep, keptSeed)))
	}
	if err != nil {
		s.notice(fmt.Sprintf("what is kept of the machine may lack something: %v", err))
	}
	return context.Cause(ctx)
}

// quit ends the machine, or waits for its own end. It has time for that even if saving it
// took too long.
func (s Session) quit(ctx context.Context, m *machine.Machine) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, quitTime, fmt.Errorf("it did not end within %v", quitTime))
	defer cancel()
	if s.Job.Stay {
		err = m.Quit(ctx)
	}
	var exit *machine.Exit
	if ended := m.Wait(ctx); errors.As(ended, &exit) && exit.Reason != machine.Ended {
		err = errors.Join(err, ended)
	}
	return err
}

// record writes what machine it was.
func (s Session) record(spec machine.Spec) error {
	k := kept{spec, wire.Protocol}
	k.Machine.Disks = slices.Clone(spec.Disks)
	for i := range k.Machine.Disks {
		k.Machine.Disks[i].Path = ""
	}
	text, err := json.MarshalIndent(k, "", "  ")
	if err == nil {
		err = os.MkdirAll(s.Keep, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(s.Keep, keptRecord), append(text, '\n'), 0o600)
	}
	return err
}

func (s Session) notice(text string) {
	s.Sink.Emit(event.Event{Kind: event.Notice, Text: text})
}

// save writes the machine's state. What could not be written whole is not there.
func (s Session) save(ctx context.Context, m *machine.Machine) error {
	ctx, cancel := context.WithTimeoutCause(ctx, keepTime, fmt.Errorf("it was not done after %v", keepTime))
	defer cancel()
	path := filepath.Join(s.Keep, keptMemory)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	packed, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err == nil {
		err = errors.Join(m.Save(ctx, packed), packed.Close())
	}
	stat, statErr := f.Stat()
	if err = errors.Join(err, statErr, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	s.notice(fmt.Sprintf("the machine is kept as it is, in %d MiB", stat.Size()>>20))
	return nil
}

// readKept reads what was kept; false if nothing was.
func readKept(dir string) (k kept, ok bool, err error) {
	if dir == "" {
		return k, false, nil
	}
	text, err := os.ReadFile(filepath.Join(dir, keptRecord))
	if errors.Is(err, fs.ErrNotExist) {
		return k, false, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &k)
	}
	if err == nil && (len(k.Machine.Disks) < 1 || len(k.Machine.Disks) > 3) {
		err = fmt.Errorf("it has %d disks", len(k.Machine.Disks))
	}
	if err != nil {
		return k, false, fmt.Errorf("read what machine failed: %w", err)
	}
	return k, true, nil
}

// resume starts the machine that was kept in dir on another disk, which holds what its
// own one held.
func (k kept) resume(ctx context.Context, dir, overlay string, sink event.Sink) (m *machine.Machine, err error) {
	if k.Protocol != wire.Protocol { // it has said so when it was another herdbook's
		return nil, fmt.Errorf("the agent in it speaks protocol %d, herdbook %d", k.Protocol, wire.Protocol)
	}
	k.Machine.Disks[0].Path, k.Machine.Disks[0].Format = overlay, disk.QCOW2
	for i := range k.Machine.Disks[1:] {
		d := &k.Machine.Disks[1+i]
		d.Path = filepath.Join(dir, keptFiles)
		if d.Serial == wire.SeedDisk {
			d.Path = filepath.Join(dir, keptSeed)
		}
	}
	f, err := os.Open(filepath.Join(dir, keptMemory))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	state, err := zstd.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("read the machine's memory: %w", err)
	}
	defer state.Close()
	return machine.Resume(ctx, k.Machine, state, sink)
}
