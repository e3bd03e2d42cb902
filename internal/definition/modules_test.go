package definition

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/peer"
)

// What a guest would not find is told before anything is built.
func TestPuppetHasWhatItNeeds(t *testing.T) {
	for name, c := range map[string]struct {
		fields string
		want   string // part of the problem; "": there is none
	}{
		"a directory":           {`manifest = "include web", modules = "real"`, ""},
		"a link to it":          {`manifest = "include web", modules = "linked"`, ""},
		"a file":                {`manifest = "include web", modules = "file"`, "file is no directory"},
		"nothing":               {`manifest = "include web", modules = "nosuch"`, "Read nosuch: no such file or directory"},
		"a link that leads out": {`manifest = "include web", modules = "outer"`, "web in outer leads to ../real/web, which the guest has not"},
		"no network":            {`server = "p", certname = "c", network = false`, "Without one the server cannot be reached"},
	} {
		dir := t.TempDir()
		for _, module := range []string{"real/web/manifests", "outer"} {
			peer.Must(t, os.MkdirAll(filepath.Join(dir, module), 0o755))
		}
		peer.Must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
		peer.Must(t, os.WriteFile(filepath.Join(dir, "real/web/manifests/init.pp"), []byte("class web {}"), 0o644))
		for link, target := range map[string]string{"linked": "real", "outer/web": "../real/web", "real/same": "web"} {
			peer.Must(t, os.Symlink(target, filepath.Join(dir, link)))
		}
		text := "image \"a\" {\n disk { size = \"1G\" }\n bootstrap \"mmdebstrap\" {\n suite = \"bookworm\"\n mirror = \"http://m.example.org\"\n }\n step \"puppet\" \"p\" {\n" +
			strings.ReplaceAll(c.fields, ", ", "\n") + "\n }\n}\n"
		path := filepath.Join(dir, "herdbook.hcl")
		peer.Must(t, os.WriteFile(path, []byte(text), 0o644))
		d, err := Load(path, Options{})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			files := d.Images[0].Steps[0].Files
			if len(files) != 5 || files[0].Name != "." || files[0].Link != "" {
				t.Errorf("%s: %+v", name, files)
			}
		}
	}
}
