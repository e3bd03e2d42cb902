package guest

import (
	"strings"
	"testing"

	"herdbook/internal/guest/guesttest"
	"herdbook/internal/peer"
)

var untidy = []node{
	{path: "/srv/a/.hidden", content: "x"}, {path: "/srv/a/..odd", content: "x"}, {path: "/srv/a/plain\nname", content: "x"},
	{path: "/srv/a/dir/file", content: "x"}, {path: "/srv/a/dir/.SEQ", content: "x"}, {path: "/srv/a/link", link: "/etc"},
	{path: "/srv/to-a", link: "a"}, {path: "/srv/conf", mode: 0o640, gid: 4, content: "a\nb\n\nb c\nlast"},
}

func TestCleaning(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(r *Root) error
	}{
		{"RemoveGlob", func(r *Root) error { return r.RemoveGlob("/srv/a/*", "/srv/none/*") }},
		{"Unlink", func(r *Root) error { return r.Unlink("/srv/a/*") }},
		{"Empty", func(r *Root) error { return r.Empty("/srv/?", "/etc/passwd") }},
		{"Empty of a link", func(r *Root) error { return r.Empty("/srv/to-a") }},
		{"RemoveFiles", func(r *Root) error { return r.RemoveFiles([]string{"/srv/a", "/srv/conf", "/none"}, ".SEQ") }},
		{"RemoveFiles of a link", func(r *Root) error { return r.RemoveFiles([]string{"/srv/to-a"}) }},
		{"EditLines", func(r *Root) error {
			return r.EditLines("/srv/conf", func(line string) (string, bool) { return strings.ToUpper(line), !strings.HasPrefix(line, "b") })
		}},
		{"EditLines without a change", func(r *Root) error {
			return r.EditLines("/srv/conf", func(line string) (string, bool) { return line, true })
		}},
		{"EditLines of nothing", func(r *Root) error {
			return r.EditLines("/srv/a", func(line string) (string, bool) { return "", false })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGuest(t, untidy...)
			got, err := guesttest.Changes(t, g.dir, func() error { return c.do(g.Root) })
			peer.Must(t, err)
			peer.Golden(t, "clean/"+strings.ReplaceAll(c.name, " ", "-")+".golden", []byte(got))
		})
	}
}
