package peer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// LVM runs LVM itself on loop devices over new files. It needs no device-mapper
// in the kernel: nothing is activated.
type LVM struct {
	t      testing.TB
	Files  []string
	Loops  []string
	config string
}

// NewLVM makes files of the sizes, in bytes, with a loop device for each.
func NewLVM(t testing.TB, sizes ...int64) *LVM {
	t.Helper()
	NeedTool(t, "lvm", "losetup")
	NeedRoot(t, "a loop device")
	l := &LVM{t: t}
	var filter []string
	for i, size := range sizes {
		file := filepath.Join(t.TempDir(), fmt.Sprint(i))
		Must(t, os.WriteFile(file, nil, 0o600))
		Must(t, os.Truncate(file, size))
		loop := strings.TrimSpace(Run(t, "losetup", "-f", "--show", file))
		t.Cleanup(func() { Run(t, "losetup", "-d", loop) })
		l.Files, l.Loops, filter = append(l.Files, file), append(l.Loops, loop), append(filter, `"a|^`+loop+`$|"`)
	}
	l.config = `devices { use_devicesfile=0 filter=[` + strings.Join(filter, ",") + `,"r|.*|"] } backup { backup=0 archive=0 } ` +
		`global { locking_dir="` + t.TempDir() + `" }`
	return l
}

// Run runs a command of LVM that must succeed.
func (l *LVM) Run(command string, args ...string) string {
	l.t.Helper()
	l.t.Setenv("LVM_SUPPRESS_FD_WARNINGS", "1")
	return Run(l.t, "lvm", append([]string{command, "--driverloaded", "n", "--config", l.config}, args...)...)
}

// Table runs a reporting command, of which it leaves the fields of every line.
func (l *LVM) Table(command, columns string, args ...string) [][]string {
	l.t.Helper()
	var rows [][]string
	out := l.Run(command, append([]string{"--noheadings", "--separator", ";", "--units", "b", "--nosuffix", "-o", columns}, args...)...)
	for line := range strings.Lines(out) {
		if strings.Contains(line, ";") {
			rows = append(rows, strings.Split(strings.TrimSpace(line), ";"))
		}
	}
	return rows
}

// Create makes a logical volume.
func (l *LVM) Create(args ...string) {
	l.t.Helper()
	l.Run("lvcreate", append([]string{"-an", "-Zn", "-Wn"}, args...)...)
}
