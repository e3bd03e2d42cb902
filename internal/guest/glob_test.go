package guest

import (
	"path"
	"slices"
	"strings"
	"testing"

	"herdbook/internal/peer"
)

func globRoot(t testing.TB) *Root {
	t.Helper()
	dir := t.TempDir()
	var nodes []node
	for _, name := range []string{"/a/one", "/a/two", "/a/.dot", "/b/one", "/b/[x]", "/b/x", "/b/!", "/c/one.log", "/c/two.log.1", "/c/three,four", "/c/{brace}"} {
		nodes = append(nodes, node{path: name, content: name})
	}
	nodes = append(nodes, node{path: "/link", link: "a"}, node{path: "/top", link: "/"}, node{path: "/broken", link: "nowhere"}, node{path: "/self", link: "self"})
	for _, n := range nodes {
		n.uid, n.gid = -1, -1
		plant(t, dir, []node{n})
	}
	r, err := OpenRoot(dir)
	peer.Must(t, err)
	t.Cleanup(func() { peer.Must(t, r.Close()) })
	return r
}

func TestGlob(t *testing.T) {
	r := globRoot(t)
	for pattern, want := range map[string]string{
		"/a/one": "/a/one", "/a/three": "", "a/one": "/a/one", "/a//./one/": "/a/one", "/a/../b/one": "/b/one",
		"/a/*": "/a/one /a/two", "/a/.*": "/a/.dot", "/a/{*,.*}": "/a/one /a/two /a/.dot", "/a/{*,.[!.]*,..?*}": "/a/one /a/two /a/.dot",
		"/*/one": "/a/one /b/one /link/one", "/?/one": "/a/one /b/one", "/[a-b]/one": "/a/one /b/one",
		"/[!b]/one": "/a/one", "/[^b]/one": "/a/one", "/b/[!x]": "/b/!", "/b/[x!]": "/b/! /b/x", `/b/\[x\]`: "/b/[x]", "/b/[[]x]": "/b/[x]",
		"/{a,b}/one": "/a/one /b/one", "/{b,a}/one": "/b/one /a/one", "/{a/two,b/one}": "/a/two /b/one", "/{a,{b,c}}/one*": "/a/one /b/one /c/one.log",
		"/c/*{.log,.1}": "/c/one.log /c/two.log.1", "/c/one{,.log}": "/c/one.log", "/c/{one": "", "/c/{brace}": "/c/{brace}", "/c/{x{one,two}*": "", "/{/{a,b}/one": "", "/{a/{one,two}": "", "/c/{bra{c,k}e}": "/c/{brace}", "/c/one}": "", "/c/three,f*": "/c/three,four",
		"/c/[{]brace}": "/c/{brace}", "/link/*": "/link/one /link/two", "/link": "/link", "/broken": "/broken", "/broken/*": "", "/self/*": "", "/self": "/self",
		"/top/a/one": "/top/a/one", "/top/top/*/two": "/top/top/a/two /top/top/link/two", "/a/one/*": "", "/": "/", "": "/", "..": "/", "/../..": "/",
		"/nothing/*": "", "/*/*.log": "/c/one.log",
	} {
		got, err := r.Glob(pattern)
		if text := strings.Join(got, " "); err != nil || text != want {
			t.Errorf("%q: %s, %v, want %s", pattern, text, err, want)
		}
	}
}

func TestGlobRefuses(t *testing.T) {
	r := globRoot(t)
	for _, pattern := range []string{"/a/[", "/a/[]x", `/a/x\`, "/a/[b-", strings.Repeat("{a,b}", 10), strings.Repeat("{a,b,c,d,e,f,g,h}", 300), "{" + strings.Repeat(",", 1000) + "}"} {
		if got, err := r.Glob(pattern); err == nil {
			t.Errorf("%.30q: %d names and no error", pattern, len(got))
		}
	}
}

func FuzzGlob(f *testing.F) {
	for _, seed := range []string{"/a/*", "/a/{*,.[!.]*,..?*}", "/{a,{b,c{d,e}}}/[!x]?*", strings.Repeat("{a,b}", 40), strings.Repeat("{", 500) + "," + strings.Repeat("}", 500),
		strings.Repeat("*a", 100), "/top/" + strings.Repeat("top/", 60), `\{a,b\}`, "/../{..,.}/*", "[", "{,}{,}", "/a\x00b"} {
		f.Add(seed)
	}
	r := globRoot(f)
	f.Fuzz(func(t *testing.T, pattern string) {
		if strings.Count(pattern, "top") > 3 || strings.Count(pattern, "*") > 20 {
			return // /top is the root again: the tree is as deep as the pattern
		}
		names, err := r.Glob(pattern)
		if err != nil {
			return
		}
		for _, name := range names {
			if !path.IsAbs(name) || path.Clean(name) != name || !r.Exists(name) {
				t.Errorf("%q found %q", pattern, name)
			}
		}
		again, err := r.Glob(pattern)
		if err != nil || !slices.Equal(names, again) {
			t.Errorf("%q: %v, then %v, %v", pattern, names, again, err)
		}
	})
}
