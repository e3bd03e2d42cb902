package client

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/event"
	"herdbook/internal/peer"
)

func TestOriginsAreThoseOfVirtBuilder(t *testing.T) {
	top := t.TempDir()
	key, err := newSigner(t, "farm").PublicKey()
	peer.Must(t, err)
	keyFile := filepath.Join(top, "key")
	peer.Must(t, os.WriteFile(keyFile, key, 0o644))
	section := func(name, uri string) string {
		return "[" + name + "]\nuri=" + uri + "\ngpgkey=file://" + keyFile + "\n\n"
	}
	for path, text := range map[string]string{
		"user/b.conf":   section("two", "http://user/two") + section("three", "http://user/three"),
		"user/a.conf":   section("one", "http://user/one"),
		"user/c.conf":   "no section\n",
		"user/notes":    section("no", "http://user/no"),
		"first/a.conf":  section("hidden", "http://first/hidden"), // behind user/a.conf
		"first/c.conf":  section("four", "http://first/four"),     // user/c.conf could not be read
		"first/d.conf":  section("two", "http://first/two"),       // there is a two
		"second/e.conf": "[five]\nuri=https://second\nformat=simplestreams\nproxy=off\n\n" + strings.Replace(section("six", "http://second/six"), keyFile, keyFile+".none", 1),
	} {
		dir, name := filepath.Split(path)
		dir = filepath.Join(top, dir, "virt-builder", "repos.d")
		peer.Must(t, os.MkdirAll(dir, 0o755))
		peer.Must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	var notices []string
	read := func(env map[string]string) []string {
		notices = nil
		list := Origins(func(name string) (string, bool) { value, ok := env[name]; return value, ok }, func(e event.Event) { notices = append(notices, e.Text) })
		var urls []string
		for _, s := range list {
			urls = append(urls, s.Name+" "+s.URL)
			if streams := s.Name == "five"; s.Streams != streams || s.Index == streams || (s.Proxy == "off") != streams || (s.Keys == nil) != streams || s.Unsigned {
				t.Errorf("%+v", s)
			}
		}
		return urls
	}
	want := []string{"one http://user/one", "two http://user/two", "three http://user/three", "four http://first/four", "five https://second"}
	dirs := filepath.Join(top, "first") + "::" + filepath.Join(top, "none") + ":" + filepath.Join(top, "second")
	got := read(map[string]string{"XDG_CONFIG_HOME": filepath.Join(top, "user"), "VIRT_BUILDER_DIRS": dirs, "HOME": "/none"})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(notices) != 2 || !strings.Contains(notices[0], "c.conf: line 1: want a section") || !strings.Contains(notices[1], "[six]: read key: open "+keyFile+".none") {
		t.Errorf("%q", notices)
	}
	peer.Must(t, os.Rename(filepath.Join(top, "user"), filepath.Join(top, ".config")))
	got = read(map[string]string{"HOME": top, "VIRT_BUILDER_DIRS": ""})
	if diff := cmp.Diff(want[:3], got); diff != "" {
		t.Error(diff)
	}
	if dirs := originDirs(func(string) (string, bool) { return "", false }); len(dirs) != 1 || dirs[0] != "/etc/virt-builder/repos.d" {
		t.Errorf("%q", dirs)
	}
}
