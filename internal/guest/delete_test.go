package guest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

func TestDeleteRemovesWhatMatches(t *testing.T) {
	for name, paths := range map[string][]string{
		"file":        {"/etc/motd"},
		"tree":        {"/opt"},
		"wildcards":   {"/usr/share/doc/*", "/var/log/*.log"},
		"braces":      {"/etc/{motd,issue,nothing}", "/var/log/{syslog{,.1},{b,w}tmp}"},
		"classes":     {"/etc/host[a-mo-z]*", "/var/log/[!a-v]tmp", "/etc/os-releas?"},
		"dot-files":   {"/tmp/*", "/var/tmp/.*"},
		"all-of-tmp":  {"/tmp/{*,.[!.]*,..?*}"},
		"link-itself": {"/lib64", "/etc/localtime"},
		"within-link": {"/lib/issue"},
		"nothing":     {"/no/such/thing", "/etc/passwd/below", "/nothing*"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newGuest(t).golden(t, name, &op.Delete{Paths: paths})
		})
	}
}

func TestDeleteStaysInTheRoot(t *testing.T) {
	outside := sandbox(t)
	plant(t, outside, []node{{path: "/secret", content: "secret"}, {path: "/dir/file", content: "x"}})
	before := snapshot(t, outside)
	g := newGuest(t, node{path: "/srv/out", link: outside}, node{path: "/srv/up", link: "../../../../../../.." + outside},
		node{path: "/srv/dir/out", link: outside}, node{path: "/srv/dir/loop", link: "loop"}, node{path: "/srv/top", link: "/"})
	for _, p := range []string{"/srv/out/*", "/srv/up/secret", "/srv/*/secret", "/srv/*/dir/*", "/srv/../../" + outside + "/*", "/srv/dir", "/srv/*"} {
		peer.Must(t, Apply(t.Context(), g.Guest, &op.Delete{Paths: []string{p}}))
		if got := diff(before, snapshot(t, outside)); got != "" {
			t.Fatalf("%s got out:\n%s", p, got)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(g.dir, "srv")); err != nil || len(entries) > 0 {
		t.Errorf("/srv still holds %v, %v", entries, err)
	}
}

func TestDeleteNeverTakesTheRoot(t *testing.T) {
	g := newGuest(t, node{path: "/srv/top", link: "/"})
	for _, p := range []string{"/", "//", "/.", "/etc/..", "", ".", "..", "/{,}", "/{etc/..,srv/..}"} {
		g.refuse(t, &op.Delete{Paths: []string{p}}, "no parent")
	}
}

func TestDeleteRefusesPatterns(t *testing.T) {
	g := newGuest(t)
	for want, p := range map[string]string{
		"syntax error in pattern":              "/etc/[a-",
		"its braces come to more than 1000 pa": "/etc/" + strings.Repeat("{a,b}", 12),
	} {
		g.refuse(t, &op.Delete{Paths: []string{p}}, want)
	}
}

func TestDeleteNamesWhatItCannotRemove(t *testing.T) {
	peer.NeedTool(t, "chattr")
	g := newGuest(t)
	name := filepath.Join(g.dir, "opt/tool/bin/tool")
	peer.Run(t, "chattr", "+i", name)
	defer peer.Run(t, "chattr", "-i", name)
	g.refuse(t, &op.Delete{Paths: []string{"/opt"}}, "delete /opt: remove /opt: tool: bin: tool: operation not permitted")
}
