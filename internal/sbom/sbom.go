// Package sbom tells the packages of a system in the form of CycloneDX, for the tools
// that look for known faults in them.
package sbom

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"

	"herdbook/internal/digest"
	"herdbook/internal/inspection"
	"herdbook/internal/pkgdb"
)

// MediaType is that of what CycloneDX returns.
const MediaType = "application/vnd.cyclonedx+json"

// Subject is what the packages are part of.
type Subject struct {
	Name    string
	Version string // which one, such as a digest
	Created time.Time
}

// CycloneDX lists the packages that the databases of a system know. The same subject and
// system make the same bytes.
func CycloneDX(subject Subject, system *inspection.System) ([]byte, error) {
	databases, err := pkgdb.Read(system.Tree())
	if err != nil {
		return nil, err
	}
	os := cyclonedx.Component{
		BOMRef: "os", Type: cyclonedx.ComponentTypeOS, Name: system.Release.ID, Version: system.Release.VersionID, Description: system.Release.PrettyName,
	}
	components := []cyclonedx.Component{os}
	seen := map[string]int{}
	for _, d := range databases {
		for _, p := range d.Packages {
			url := packageURL(d.Manager, system.Release, p)
			ref := url
			if seen[url]++; seen[url] > 1 { // a reference is of one; rpm may have a package twice, such as a key
				ref = fmt.Sprintf("%s#%d", url, seen[url])
			}
			components = append(components, cyclonedx.Component{
				BOMRef: ref, Type: cyclonedx.ComponentTypeLibrary, Name: p.Name, Version: p.Version, Description: p.Summary, PackageURL: url,
			})
		}
	}
	bom := cyclonedx.NewBOM()
	bom.SerialNumber = serial(subject)
	bom.Metadata = &cyclonedx.Metadata{
		Timestamp: subject.Created.UTC().Format(time.RFC3339),
		Component: &cyclonedx.Component{BOMRef: "image", Type: cyclonedx.ComponentTypeContainer, Name: subject.Name, Version: subject.Version},
	}
	bom.Components = &components
	var text bytes.Buffer
	// The version that today's tools read.
	if err := cyclonedx.NewBOMEncoder(&text, cyclonedx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cyclonedx.SpecVersion1_5); err != nil {
		return nil, fmt.Errorf("encode the list of packages: %w", err)
	}
	return text.Bytes(), nil
}

// serial is a UUID made of the subject (version 8, that of no standard way).
func serial(s Subject) string {
	d := string(digest.Of([]byte(s.Name + "\n" + s.Version)))
	return fmt.Sprintf("urn:uuid:%s-%s-8%s-8%s-%s", d[:8], d[8:12], d[13:16], d[17:20], d[20:32])
}

// urlTypes are those of package URLs, by package manager.
var urlTypes = map[string]string{"dpkg": "deb", "rpm": "rpm", "apk": "apk", "pacman": "alpm"}

// packageURL names a package among those of all distributions.
func packageURL(manager string, release inspection.Release, p pkgdb.Package) string {
	version, epoch := p.Version, ""
	if before, after, ok := strings.Cut(version, ":"); ok && manager == "rpm" {
		epoch, version = before, after
	}
	url := "pkg:" + urlTypes[manager] + "/" + escape(strings.ToLower(release.ID)) + "/" + escape(p.Name) + "@" + escape(version)
	sign := "?"
	for _, qualifier := range [][2]string{{"arch", p.Architecture}, {"distro", strings.Trim(release.ID+"-"+release.VersionID, "-")}, {"epoch", epoch}} {
		if qualifier[1] != "" {
			url += sign + qualifier[0] + "=" + escape(qualifier[1])
			sign = "&"
		}
	}
	return url
}

// escape writes all but what a package URL may hold as it is in percent.
func escape(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(".-_~:", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
