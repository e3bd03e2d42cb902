package sbom

import (
	"testing"

	"herdbook/internal/inspection"
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
