package guest

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

// payload is a tar like those on the disk of files: the payloads of two steps.
func payload(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		content := "content of " + h.Name
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content))
		}
		peer.Must(t, w.WriteHeader(&h))
		if h.Typeflag == tar.TypeReg {
			_, err := w.Write([]byte(content))
			peer.Must(t, err)
		}
	}
	peer.Must(t, w.Close())
	return b.Bytes()
}

// site is a tree of every kind that copy knows; 1 is another step's.
var site = []tar.Header{
	{Name: "1/other", Mode: 0o644},
	{Name: "0/", Typeflag: tar.TypeDir, Mode: 0o750},
	{Name: "0/index.html", Mode: 0o644, Uid: 501, Gid: 20},
	{Name: "0/bin/", Typeflag: tar.TypeDir, Mode: 0o711},
	{Name: "0/bin/tool", Mode: 0o4755},
	{Name: "0/private/", Typeflag: tar.TypeDir, Mode: 0o700},
	{Name: "0/relative", Typeflag: tar.TypeSymlink, Linkname: "bin/tool"},
	{Name: "0/absolute", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
	{Name: "0/dangling", Typeflag: tar.TypeSymlink, Linkname: "../../nowhere"},
	{Name: "00/other", Mode: 0o644},
	{Name: "2", Mode: 0o640},
}

// withFiles gives the guest a disk of files, which is longer than its tar.
func (g *guestTest) withFiles(p []byte) {
	p = append(p, make([]byte, 4096)...)
	g.Files, g.FilesSize = bytes.NewReader(p), int64(len(p))
}

func TestCopyLaysATreeDown(t *testing.T) {
	for name, o := range map[string]*op.Copy{
		"tree":         {Destination: "/srv/www", Payload: "0"},
		"owner":        {Destination: "/srv/www", Payload: "0", Owner: "www-data", Group: "adm"},
		"deep":         {Destination: "/srv/a/b/www", Payload: "0", Owner: "deploy"},
		"over-tree":    {Destination: "/home/deploy", Payload: "0"},
		"through-link": {Destination: "/var/run/site", Payload: "0"},
		"file":         {Destination: "/srv/x/one", Payload: "2"},
		"file-by-name": {Destination: "/srv", Payload: "2", Name: "two"},
		"name-unused":  {Destination: "/srv/x", Payload: "2", Name: "two"},
		"over-file":    {Destination: "/etc/motd", Payload: "2", Owner: "daemon"},
		"over-link":    {Destination: "/etc/issue", Payload: "2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.Source = "site"
			g := newGuest(t)
			g.withFiles(payload(t, site...))
			g.golden(t, name, o)
		})
	}
}

func TestCopyKeepsWhatIsThere(t *testing.T) {
	g := newGuest(t, node{path: "/srv/www/", mode: 0o2770, uid: 33, gid: 34}, node{path: "/srv/www/kept", content: "kept"},
		node{path: "/srv/www/bin", link: "/opt/tool/bin"})
	g.withFiles(payload(t, site...))
	g.golden(t, "existing-directory", &op.Copy{Source: "site", Destination: "/srv/www", Payload: "0"})
}

// Neither the links of the image nor those of the tar, nor its names, lead out
// of the root.
func TestCopyStaysInTheRoot(t *testing.T) {
	outside := sandbox(t)
	plant(t, outside, []node{{path: "/secret", content: "secret"}})
	before := snapshot(t, outside)
	g := newGuest(t, node{path: "/srv/out", link: outside}, node{path: "/srv/up", link: "../../../../../../../.." + outside},
		node{path: "/srv/top", link: "/"})
	g.withFiles(payload(t,
		tar.Header{Name: "0/../../../../../../.." + outside + "/dots", Mode: 0o644},
		tar.Header{Name: "/0/absolute", Mode: 0o644},
		tar.Header{Name: "../0/above", Mode: 0o644},
		tar.Header{Name: "0/link", Typeflag: tar.TypeSymlink, Linkname: outside},
		tar.Header{Name: "0/climb", Typeflag: tar.TypeSymlink, Linkname: "../../../../../../../../../.." + outside},
		tar.Header{Name: "0/top/etc/from-top", Mode: 0o644},
	))
	got, err := g.changes(t, &op.Copy{Destination: "/srv", Payload: "0"})
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(before, snapshot(t, outside)); d != "" {
		t.Errorf("the copy got out:\n%s", d)
	}
	for _, want := range []string{"+ /srv/link ", "+ /srv/climb ", "+ /etc/from-top "} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "\n"); n != 3 {
		t.Errorf("%d changes, want 3:\n%s", n, got)
	}
	for _, destination := range []string{"/srv/out/secret", "/srv/up/secret", "/srv/link/secret", "/srv/climb/secret"} {
		g.withFiles(payload(t, tar.Header{Name: "0", Mode: 0o644}))
		if err := Apply(t.Context(), g.Guest, &op.Copy{Destination: destination, Payload: "0"}); err == nil {
			t.Errorf("%s: no error, though the link leads nowhere in the root", destination)
		}
	}
	if d := diff(before, snapshot(t, outside)); d != "" {
		t.Errorf("the copy got out:\n%s", d)
	}
}

func TestCopyRefuses(t *testing.T) {
	whole := payload(t, site...)
	for _, c := range []struct {
		name, want string
		files      []byte
		o          op.Copy
	}{
		{"no disk", "no disk with files came with the job", nil, op.Copy{Destination: "/srv", Payload: "0"}},
		{"missing payload", "not on the disk", whole, op.Copy{Destination: "/srv", Payload: "3"}},
		{"unknown owner", `no account "martha"`, whole, op.Copy{Destination: "/srv", Payload: "0", Owner: "martha"}},
		{"truncated in a file", "unexpected EOF", payload(t, tar.Header{Name: "0", Mode: 0o644})[:512+3], op.Copy{Destination: "/srv/x", Payload: "0"}},
		{"truncated in a header", "unexpected EOF", whole[:512+512+100], op.Copy{Destination: "/srv/x", Payload: "0"}},
		{"no tar", "invalid tar header", bytes.Repeat([]byte("no tar "), 1000), op.Copy{Destination: "/srv", Payload: "0"}},
		{"device", "cannot be copied", payload(t, tar.Header{Name: "0", Typeflag: tar.TypeChar, Mode: 0o666}), op.Copy{Destination: "/srv/x", Payload: "0"}},
		{"file over directory", "is a directory", payload(t, tar.Header{Name: "0", Mode: 0o644}), op.Copy{Destination: "/srv", Payload: "0"}},
		{"link over directory", "is a directory", payload(t, tar.Header{Name: "0", Typeflag: tar.TypeSymlink, Linkname: "x"}), op.Copy{Destination: "/srv", Payload: "0"}},
		{"directory over file", "not a directory", payload(t, tar.Header{Name: "0", Typeflag: tar.TypeDir, Mode: 0o755}), op.Copy{Destination: "/etc/passwd", Payload: "0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			if c.files != nil {
				g.Files, g.FilesSize = bytes.NewReader(c.files), int64(len(c.files))
			}
			g.refuse(t, &c.o, c.want)
		})
	}
}
