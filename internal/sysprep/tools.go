package sysprep

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"

	"herdbook/internal/event"
	"herdbook/internal/guest"
	"herdbook/internal/uuid"
)

// programs are what changes the identifiers that checksums hang on, and the packages
// that have them.
var programs = map[uuid.Type]struct {
	names []string
	from  string
}{
	uuid.Ext:   {[]string{"tune2fs", "e2fsck"}, "e2fsprogs"},
	uuid.XFS:   {[]string{"xfs_db"}, "xfsprogs"},
	uuid.Btrfs: {[]string{"btrfstune"}, "btrfs-progs"},
}

// maxTools bounds what all programs and libraries have together, in bytes: they lie in
// memory.
const maxTools = 64 << 20

// libraryDirectories are where programs and their libraries may lie.
var libraryDirectories = []string{"/bin/", "/sbin/", "/lib", "/usr/", "/opt/", "/gnu/", "/nix/"}

// BringTools copies the guest's own programs that the change of identities needs, with
// their libraries, to the same places in another root, where they can be run when the
// guest is not mounted. A program that the guest does not have is an error.
func BringTools(ctx context.Context, g *guest.Guest, list []uuid.Change, to *guest.Root) error {
	b := &bringer{from: g.Root, to: to, brought: map[string]bool{}}
	for _, id := range list {
		needed := programs[id.Type]
		for _, name := range needed.names {
			err := b.bring(ctx, name)
			if errors.Is(err, errNoProgram) {
				return fmt.Errorf("sysprep: the UUID of %s (%s) can be changed by %s only, which the guest does not have: add its package %s", id.Source, id.Type, name, needed.from)
			}
			if err != nil {
				return fmt.Errorf("sysprep: copy %s into memory: %w", name, err)
			}
		}
	}
	return nil
}

var errNoProgram = errors.New("the guest has no such program")

// bringer copies programs out of a guest.
type bringer struct {
	from, to *guest.Root
	brought  map[string]bool // paths
	total    int64           // bytes
}

func (b *bringer) bring(ctx context.Context, name string) error {
	found, err := b.from.Glob("/{usr/sbin,sbin,usr/bin,bin}/" + name)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return errNoProgram
	}
	program := found[0]
	if b.brought[program] {
		return nil
	}
	loader, err := b.loader(program)
	if err != nil {
		return err
	}
	files := []string{program}
	if loader != "" {
		libraries, err := b.libraries(ctx, loader, program)
		if err != nil {
			return err
		}
		files = append(append(files, loader), libraries...)
	}
	for _, file := range files {
		if err := b.copy(file); err != nil {
			return err
		}
	}
	return nil
}

// loader is the program that loads a program's libraries; "" if it has none.
func (b *bringer) loader(program string) (string, error) {
	f, err := b.from.Open(program)
	if err != nil {
		return "", err
	}
	defer f.Close()
	image, err := elf.NewFile(f)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", program, err)
	}
	for _, p := range image.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
		return strings.TrimRight(string(name), "\x00"), err
	}
	return "", nil
}

// libraries asks the guest's own loader, which alone knows all of its rules. Those of glibc
// and musl answer alike.
func (b *bringer) libraries(ctx context.Context, loader, program string) ([]string, error) {
	var mu sync.Mutex
	var found, said []string
	runner := &guest.Chroot{Dir: b.from.Dir(), Sink: func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, e.Text)
		for word := range strings.FieldsSeq(e.Text) {
			if path.IsAbs(word) && e.Stream == event.Stdout {
				found = append(found, word)
			}
		}
	}}
	status, err := runner.Run(ctx, guest.Command{Args: []string{loader, "--list", program}})
	if err == nil && status != 0 {
		err = fmt.Errorf("%s ended with status %d: %s", loader, status, strings.Join(said, "; "))
	}
	return found, err
}

func (b *bringer) copy(name string) error {
	name = path.Clean(name)
	if b.brought[name] {
		return nil
	}
	allowed := false
	for _, dir := range libraryDirectories {
		allowed = allowed || strings.HasPrefix(name, dir)
	}
	if !allowed {
		return fmt.Errorf("%s is no place for a program or a library", name)
	}
	f, err := b.from.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	content := &io.LimitedReader{R: f, N: maxTools - b.total + 1}
	if err := b.to.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := b.to.WriteFrom(name, content, guest.Attributes{Mode: 0o755}); err != nil {
		return err
	}
	if content.N <= 0 {
		return fmt.Errorf("they have more than %d bytes", maxTools)
	}
	b.brought[name], b.total = true, maxTools+1-content.N
	return nil
}
