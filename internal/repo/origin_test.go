package repo

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseOrigins(t *testing.T) {
	got, err := ParseOrigins([]byte(`# as virt-builder ships it
[libguestfs.org]
uri=http://builder.libguestfs.org/index.asc
gpgkey=file:///etc/virt-builder/repos.d/lib%20guestfs.gpg
proxy=no

[cirros]
uri=https://download.cirros-cloud.net
format=simplestreams
proxy=http://user:word@proxy.example.org:3128
more=ignored
[close]
uri=file:///srv/repo/index
proxy=System
`))
	want := []Origin{
		{Name: "libguestfs.org", URI: "http://builder.libguestfs.org/index.asc", KeyFile: "/etc/virt-builder/repos.d/lib guestfs.gpg", Proxy: "off"},
		{Name: "cirros", URI: "https://download.cirros-cloud.net", Streams: true, Proxy: "http://user:word@proxy.example.org:3128"},
		{Name: "close", URI: "file:///srv/repo/index"},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestWhatIsWrongInOriginsIsTold(t *testing.T) {
	const good = "[good]\nuri=http://a/index\n\n"
	for name, c := range map[string]struct {
		text, want string
		left       int
	}{
		"a broken line":         {good + "[x]\nuri http://b\n", "line 5: \"uri http://b\" is neither", 0},
		"no section":            {"uri=x\n", "line 1: want a section", 0},
		"no uri":                {good + "[x]\nformat=native\n", "[x]: it has no uri", 1},
		"a path":                {good + "[x]\nuri=/srv/index\n", "[x]: uri: \"/srv/index\" is no URL", 1},
		"another format":        {good + "[x]\nuri=http://b\nformat=ova\n", "[x]: format: \"ova\" is not known", 1},
		"a key by http":         {good + "[x]\nuri=http://b\ngpgkey=https://b/key\n", "proves nothing; keep it on this machine", 1},
		"a key's path":          {good + "[x]\nuri=http://b\ngpgkey=/b/key\n", "want file:///PATH", 1},
		"a key's host":          {good + "[x]\nuri=http://b\ngpgkey=file://b/key\n", "want file:///PATH", 1},
		"a proxy":               {good + "[x]\nuri=http://b\nproxy=ftp://user:word@b\n", "proxy: want off, system", 1},
		"twice":                 {good + "[x]\nuri=http://b\n[x]\nuri=http://c\n", "[x]: it stands there twice", 2},
		"all that is wrong":     {good + "[x]\n[y]\n", "[x]: it has no uri\n[y]: it has no uri", 1},
		"more than it may have": {strings.Repeat("#\n", MaxOrigins), "more than the", 0},
	} {
		got, err := ParseOrigins([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) || len(got) != c.left || strings.Contains(err.Error(), "word") {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
}

func FuzzParseOrigins(f *testing.F) {
	f.Add([]byte("[a]\nuri=http://b/index.asc\ngpgkey=file:///k\nproxy=off\nformat=simplestreams\n"))
	f.Add([]byte("[a]\nuri=file:///%zz\n b\n\n[b]\ngpgkey=http:\n"))
	f.Fuzz(func(t *testing.T, untrusted []byte) {
		list, _ := ParseOrigins(untrusted)
		seen := map[string]bool{}
		for _, o := range list {
			if o.Name == "" || o.URI == "" || seen[o.Name] || o.KeyFile != "" && o.KeyFile[0] != '/' {
				t.Errorf("%+v", o)
			}
			seen[o.Name] = true
		}
	})
}
