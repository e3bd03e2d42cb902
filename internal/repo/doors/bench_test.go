package doors

import (
	"fmt"
	"testing"

	"herdbook/internal/repo"
)

// BenchmarkFiles derives all files of an index of 10,000 revisions, of many images
// and of one.
func BenchmarkFiles(b *testing.B) {
	for name, images := range map[string]int{"of many": 2000, "of one": 1} {
		var x repo.Index
		for i := range images {
			image := fmt.Sprintf("image-%04d", i)
			for revision := 10000 / images; revision > 0; revision-- {
				e := repo.Entry{ID: image, Arch: "x86_64", Revision: revision, Facts: repo.Facts{Image: image, Published: noon, Released: []repo.Release{{Channel: repo.Stable, Time: noon}}}}
				for _, kind := range []string{"qcow2", "box.libvirt", "kernel", "initrd"} {
					e.Artefacts = append(e.Artefacts, artefact(kind, fmt.Sprintf("images/%s-%d.%s", image, revision, kind)))
				}
				e.File = e.Artefacts[0].File
				if revision == 10000/images {
					e.Channels = []string{repo.Stable}
				}
				x.Entries = append(x.Entries, e)
			}
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if files, err := Files(located(x, "file:///srv")); err != nil || len(files) < 8 {
					b.Fatal(len(files), err)
				}
			}
		})
	}
}
