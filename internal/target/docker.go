package target

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"herdbook/internal/op"
)

// Docker is a container image: an OCI image layout, and an archive that "docker load"
// and "podman load" take; in a registry, if it is told one.
type Docker struct {
	Tags    []string `hcl:"tags,optional" json:"tags"`       // NAME:TAG; the default is IMAGE:latest
	Formats []string `hcl:"formats,optional" json:"formats"` // of DockerFormats; the default is all
	Squash  bool     `hcl:"squash,optional" json:"squash"`   // one layer, instead of one for each step that changed something
	SBOM    bool     `hcl:"sbom,optional" json:"sbom"`       // the list of its packages goes with it; the default is true

	Command      []string          `hcl:"command,optional" json:"command"` // the default is the image's bash, else sh, or nothing behind an entrypoint
	Entrypoint   []string          `hcl:"entrypoint,optional" json:"entrypoint"`
	Environment  map[string]string `hcl:"environment,optional" json:"environment"`
	User         string            `hcl:"user,optional" json:"user"`                   // USER or USER:GROUP, names or numbers
	Workdir      string            `hcl:"workdir,optional" json:"workdir"`             // absolute
	ExposedPorts []string          `hcl:"exposed_ports,optional" json:"exposed_ports"` // PORT or PORT/PROTOCOL
	Volumes      []string          `hcl:"volumes,optional" json:"volumes"`             // absolute
	StopSignal   string            `hcl:"stop_signal,optional" json:"stop_signal"`     // such as SIGRTMIN+3
	Labels       map[string]string `hcl:"labels,optional" json:"labels"`               // beside those of the pedigree

	Push     []string `hcl:"push,optional" json:"-"`     // REGISTRY/NAME:TAG
	Insecure bool     `hcl:"insecure,optional" json:"-"` // push over plain HTTP, not to the loopback alone
}

// DockerFormats are the forms of a container image.
var DockerFormats = []string{"oci", "docker-archive"}

var (
	// imageTag is a reference as registries take it: a name of lower-case parts and a tag.
	imageTag = regexp.MustCompile(`^[a-z0-9]+(?:[._/:-]+[a-z0-9]+)*:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	// remoteTag is one that says its registry: a name with a dot, a port, or localhost.
	remoteTag = regexp.MustCompile(`^(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9.-]+:[0-9]+|\[[0-9a-f:]+\](?::[0-9]+)?)/[a-z0-9]+(?:(?:[._]|__|-+|/)[a-z0-9]+)*:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

	exposedPort = regexp.MustCompile(`^[1-9][0-9]{0,4}(?:-[1-9][0-9]{0,4})?(?:/(?:tcp|udp|sctp))?$`)
	stopSignal  = regexp.MustCompile(`^(?:SIG)?[A-Z][A-Z0-9]*(?:[+-][0-9]+)?$|^[0-9]{1,2}$`)
)

// Kind implements Target.
func (*Docker) Kind() string { return "docker" }

// Version implements Target.
func (*Docker) Version() int { return 3 }

// Variant implements Target.
func (*Docker) Variant() string { return "" }

// Adjustments implements Target: what only a machine needs is left out of the artefact.
func (*Docker) Adjustments() []Adjustment { return nil }

// Check implements Target.
func (d *Docker) Check() []op.Problem {
	var problems []op.Problem
	each := func(field string, values []string, ok func(string) bool, what string) {
		for _, v := range values {
			if !ok(v) {
				problems = append(problems, op.Problem{Field: field, Message: fmt.Sprintf("%q is not %s", v, what)})
			}
		}
	}
	absolute := func(p string) bool { return path.IsAbs(p) && path.Clean(p) == p }
	each("tags", d.Tags, imageTag.MatchString, `a tag such as "NAME:latest"`)
	each("formats", d.Formats, func(f string) bool { return slices.Contains(DockerFormats, f) }, "a format; there are "+strings.Join(DockerFormats, " and "))
	each("exposed_ports", d.ExposedPorts, exposedPort.MatchString, `a port such as "80" or "53/udp"`)
	each("volumes", d.Volumes, absolute, "an absolute path in its shortest form")
	each("push", d.Push, remoteTag.MatchString, `the name of an image in a registry, such as "registry.example.org/team/web:1.2"`)
	each("environment", slices.Sorted(maps.Keys(d.Environment)), func(name string) bool { return name != "" && !strings.ContainsAny(name, "=\x00") }, "the name of a variable")
	problem := func(wrong bool, field, message string) {
		if wrong {
			problems = append(problems, op.Problem{Field: field, Message: message})
		}
	}
	problem(d.Formats != nil && len(d.Formats) == 0, "formats", "no format is given")
	problem(d.Workdir != "" && !absolute(d.Workdir), "workdir", fmt.Sprintf("%q is not an absolute path in its shortest form", d.Workdir))
	problem(d.StopSignal != "" && !stopSignal.MatchString(d.StopSignal), "stop_signal", fmt.Sprintf(`%q is not a signal such as "SIGTERM"`, d.StopSignal))
	problem(strings.ContainsAny(d.User, " \t\n"), "user", fmt.Sprintf(`%q is not a user such as "web" or "1000:1000"`, d.User))
	problem(len(d.Push) > 0 && !d.Has("oci"), "push", `what is pushed is the format "oci", which "formats" leaves out`)
	return problems
}

// Has tells whether a format is wanted.
func (d *Docker) Has(format string) bool { return slices.Contains(d.Formats, format) }
