package filesystem

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
)

func TestJoin(t *testing.T) {
	root := memory{
		1: {ModeDir, "bin 2\nusr 3\nvar 4\nfile 5\nboot 6\n"}, 2: {ModeSymlink, "usr/bin"},
		3: {ModeDir, "hidden 5\n"}, 4: {ModeDir, ""}, 5: {ModeRegular, "of the root"}, 6: {ModeSymlink, "/var/boot"},
	}
	usr := memory{1: {ModeDir, "bin 2\nlink 4\n"}, 2: {ModeDir, "sh 3\n"}, 3: {ModeRegular, "shell"}, 4: {ModeSymlink, "../../file"}}
	varlib := memory{1: {ModeDir, "boot 2\n"}, 2: {ModeDir, "old 3\n"}, 3: {ModeRegular, "old"}}
	boot := memory{1: {ModeDir, "vmlinuz 2\n"}, 2: {ModeRegular, "kernel"}}
	// As fstab has it: /boot is a link, and mounts follow it.
	f, err := Join([]Mounted{{".", New(root)}, {"usr", New(usr)}, {"var", New(varlib)}, {"nothing/there", New(boot)}, {"boot", New(boot)}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"bin/sh": "shell", "usr/link": "of the root", "boot/vmlinuz": "kernel", "var/boot/vmlinuz": "kernel", "usr/bin/sh": "shell",
	} {
		if got, err := f.ReadFile(name); string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"usr/hidden", "var/boot/old"} {
		if _, err := f.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is not hidden: %v", name, err)
		}
	}
	var names []string
	err = f.Walk(func(name string, e *Entry) error {
		names = append(names, name)
		stat, err := f.Lstat(name)
		if own, also := e.Stat(); err == nil && (also != nil || own.Ino != stat.Sys().(*Stat).Ino) {
			t.Errorf("%s has two numbers", name)
		}
		return err
	})
	if got := strings.Join(names, " "); err != nil || got != ". bin boot file usr usr/bin usr/bin/sh usr/link var var/boot var/boot/vmlinuz" {
		t.Errorf("%s, %v", got, err)
	}
}

func TestJoinRefuses(t *testing.T) {
	root := New(memory{1: {ModeDir, "file 5\ndir 2\nfar 3\n"}, 2: {ModeDir, "deep 9223372036854775807\n"}, 5: sound[5]})
	for want, mounts := range map[string][]Mounted{
		"mount a file system on /file: not a directory": {{".", root}, {"file", root}},
		"17 of them are too many":                       make([]Mounted, 17),
	} {
		if _, err := Join(mounts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	f, err := Join([]Mounted{{".", root}, {"dir", root}}) // in itself
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Walk(func(string, *Entry) error { return nil }); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
}
