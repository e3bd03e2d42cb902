package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"

	"github.com/spf13/cobra"

	"herdbook/internal/filesystem"
	"herdbook/internal/inspection"
	"herdbook/internal/survey"
)

func (a *app) lsCommand() *cobra.Command {
	var f pieceFlags
	var long, recursive bool
	c := &cobra.Command{
		Use:   "ls DISK [DIRECTORY]",
		Short: "List files of a disk image",
		Long: "List a directory of a disk image, or with --recursive all below it. Names with signs that cannot be printed are quoted.\n" +
			"No machine is started.",
		Args: arguments(cobra.RangeArgs(1, 2)),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "/"
			if len(args) > 1 {
				dir = args[1]
			}
			name, err := inGuest(dir)
			if err != nil {
				return err
			}
			return f.look(args[0], func(s *inspection.System) error {
				sub, err := s.Tree().Sub(name)
				if err != nil {
					return err
				}
				out := bufio.NewWriter(a.Stdout)
				return errors.Join(list(out, sub, long, recursive), out.Flush())
			})
		},
	}
	f.add(a, c)
	c.Flags().BoolVarP(&long, "long", "l", false, "with mode, links, owner and group by number, size, time and a link's target")
	c.Flags().BoolVarP(&recursive, "recursive", "R", false, "all that is below, each by its path from there")
	return c
}

// list prints what is in a tree.
func list(w io.Writer, tree *filesystem.FS, long, recursive bool) error {
	return tree.Walk(func(name string, e *filesystem.Entry) error {
		if name == "." {
			return nil
		}
		line := survey.Plain(name)
		if long {
			var err error
			if line, err = longLine(name, e); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
		if !recursive && e.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
}

// longLine tells all of an entry, much as ls(1) does.
func longLine(name string, e *filesystem.Entry) (string, error) {
	stat, err := e.Stat()
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	size := strconv.FormatInt(stat.Size, 10)
	mode := stat.FileMode()
	if mode&fs.ModeDevice != 0 {
		size = fmt.Sprintf("%d,%d", stat.Major, stat.Minor)
	}
	line := fmt.Sprintf("%s %3d %5d %5d %10s %s %s", modeText(stat), stat.Nlink, stat.UID, stat.GID, size, stat.Mtime.Format("2006-01-02 15:04:05"), survey.Plain(name))
	if mode&fs.ModeSymlink != 0 {
		target, err := e.ReadLink()
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		line += " -> " + survey.Plain(target)
	}
	return line, nil
}

// modeText writes type and permissions as ls(1) does.
func modeText(s *filesystem.Stat) string {
	kinds := map[uint16]byte{
		filesystem.ModeDir: 'd', filesystem.ModeSymlink: 'l', filesystem.ModeBlock: 'b', filesystem.ModeChar: 'c',
		filesystem.ModeFIFO: 'p', filesystem.ModeSocket: 's', filesystem.ModeRegular: '-',
	}
	text := []byte("?rwxrwxrwx")
	if kind, ok := kinds[s.Mode&filesystem.ModeType]; ok {
		text[0] = kind
	}
	for i := range 9 {
		if s.Mode&(1<<(8-i)) == 0 {
			text[1+i] = '-'
		}
	}
	for _, special := range []struct {
		bit   uint16
		at    int
		signs string // with and without the right to execute
	}{{0o4000, 3, "sS"}, {0o2000, 6, "sS"}, {0o1000, 9, "tT"}} {
		if s.Mode&special.bit == 0 {
			continue
		}
		sign := special.signs[0]
		if text[special.at] == '-' {
			sign = special.signs[1]
		}
		text[special.at] = sign
	}
	return string(text)
}
