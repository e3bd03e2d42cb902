package sbom

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/xeipuuv/gojsonschema"

	"herdbook/internal/inspection"
	"herdbook/internal/peer"
	"herdbook/internal/pkgdb"
)

func TestPackageURL(t *testing.T) {
	debian := inspection.Release{ID: "debian", VersionID: "12"}
	for want, got := range map[string]string{
		"pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12": packageURL("dpkg", debian, pkgdb.Package{Name: "libstdc++6", Version: "1:12.2.0-14+deb12u1", Architecture: "amd64"}),
		"pkg:deb/debian/dash@0.5~1?distro=debian":                                         packageURL("dpkg", inspection.Release{ID: "debian"}, pkgdb.Package{Name: "dash", Version: "0.5~1"}),
		"pkg:rpm/fedora/bash@5.2-1.fc40?arch=x86_64&distro=fedora-40&epoch=2":             packageURL("rpm", inspection.Release{ID: "fedora", VersionID: "40"}, pkgdb.Package{Name: "bash", Version: "2:5.2-1.fc40", Architecture: "x86_64"}),
		"pkg:apk/alpine/musl@1.2.4-r2?arch=x86_64&distro=alpine-3.19.1":                   packageURL("apk", inspection.Release{ID: "alpine", VersionID: "3.19.1"}, pkgdb.Package{Name: "musl", Version: "1.2.4-r2", Architecture: "x86_64"}),
		"pkg:alpm/arch/linux@6.9%2Fx?distro=arch":                                         packageURL("pacman", inspection.Release{ID: "arch"}, pkgdb.Package{Name: "linux", Version: "6.9/x"}),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// schema is CycloneDX's own, of version 1.5, as it comes with the library's source.
func schema(t *testing.T) *gojsonschema.Schema {
	t.Helper()
	dir := strings.TrimSpace(peer.Run(t, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go"))
	load := func(name string) gojsonschema.JSONLoader {
		text, err := os.ReadFile(filepath.Join(dir, "schema", name))
		peer.Must(t, err)
		return gojsonschema.NewBytesLoader(text)
	}
	all := gojsonschema.NewSchemaLoader()
	peer.Must(t, all.AddSchemas(load("spdx.schema.json"), load("jsf-0.82.schemax.json"))) // to which it refers
	s, err := all.Compile(load("bom-1.5.schema.json"))
	peer.Must(t, err)
	return s
}

// system is one with the files.
func system(t *testing.T, files map[string]string) *inspection.System {
	t.Helper()
	peer.NeedTool(t, "mke2fs")
	dir, raw := t.TempDir(), filepath.Join(t.TempDir(), "raw")
	files["etc/hosts"] = ""
	for name, content := range files {
		peer.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		peer.Must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	peer.Run(t, "mke2fs", "-q", "-t", "ext4", "-d", dir, raw, "8M")
	f, err := os.Open(raw)
	peer.Must(t, err)
	t.Cleanup(func() { peer.Must(t, f.Close()) })
	s, err := inspection.Disk(f, 8<<20)
	peer.Must(t, err)
	return s
}

func TestTheSchemaTakesIt(t *testing.T) {
	valid := schema(t)
	for name, files := range map[string]map[string]string{
		"dpkg": {
			"etc/os-release":      "ID=debian\nVERSION_ID=12\nPRETTY_NAME=\"Debian \\\"12\\\"\"\n",
			"var/lib/dpkg/status": "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\nVersion: 2.36-9+deb12u4\nDescription: GNU C <Library>\n\nPackage: libc6\nStatus: install ok installed\nArchitecture: i386\nVersion: 2.36-9+deb12u4\nDescription: ünï\n\n",
		},
		"apk":     {"etc/os-release": "ID=alpine\nVERSION_ID=3.19.1\n", "lib/apk/db/installed": "P:musl\nV:1.2.4-r2\nA:x86_64\nT:the libc\n\n"},
		"nothing": {"etc/os-release": "PRETTY_NAME=Nothing\n"},
	} {
		s := system(t, files)
		text, err := CycloneDX(Subject{Name: "small", Version: "sha256:" + strings.Repeat("a", 64), Created: time.Unix(1e9, 0)}, s)
		peer.Must(t, err)
		result, err := valid.Validate(gojsonschema.NewBytesLoader(text))
		peer.Must(t, err)
		for _, problem := range result.Errors() {
			t.Errorf("%s: %s", name, problem)
		}
		again, err := CycloneDX(Subject{Name: "small", Version: "sha256:" + strings.Repeat("a", 64), Created: time.Unix(1e9, 0)}, s)
		peer.Must(t, err)
		if diff := cmp.Diff(string(text), string(again)); diff != "" {
			t.Errorf("%s: other bytes: %s", name, diff)
		}
		if name != "dpkg" {
			continue
		}
		// It would tell what is wrong.
		for _, wrong := range [][2]string{{`"type": "library"`, `"type": "book"`}, {`"name": "libc6"`, `"nom": "libc6"`}, {`"urn:uuid:`, `"uuid:`}, {`"2001-09-09T01:46:40Z"`, `"yesterday"`}} {
			spoilt := strings.ReplaceAll(string(text), wrong[0], wrong[1])
			if result, err := valid.Validate(gojsonschema.NewStringLoader(spoilt)); err != nil || result.Valid() || spoilt == string(text) {
				t.Errorf("it takes %s for %s: %v", wrong[1], wrong[0], err)
			}
		}
		var bom struct {
			Components []struct {
				Ref string `json:"bom-ref"`
			}
		}
		peer.Must(t, json.Unmarshal(text, &bom))
		seen := map[string]bool{}
		for _, c := range bom.Components {
			if seen[c.Ref] {
				t.Errorf("%s is there twice", c.Ref)
			}
			seen[c.Ref] = true
		}
		if len(seen) != 3 {
			t.Errorf("there are %d components: %s", len(seen), text)
		}
	}
}
