package plan

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/install"
	"herdbook/internal/op"
	"herdbook/internal/store"
)

// format is raised when the meaning of all keys changes.
const format = "herdbook key 1"

// model is the machine that the workshop gives to a guest. It enters the keys
// of steps that run there, since drivers and device names can be seen by them.
const model = "workshop 1"

// bootModel is the machine that a booted system sees.
const bootModel = "booted 1"

// installModel is the machine that an installer sees: an image may keep drivers
// and device names of it. Memory is left out: an installer that has enough of it
// makes the same disk with more.
const installModel = "installer 1"

// Line is one thing that a key depends on.
type Line struct {
	Label string
	Value string
}

// String is the line as it is hashed and shown.
func (l Line) String() string { return l.Label + " " + strconv.Quote(l.Value) }

// lines gathers the lines of a key.
type lines []Line

func (l *lines) add(label string, values ...string) {
	for _, value := range values {
		*l = append(*l, Line{label, value})
	}
}

func (l *lines) addIf(label, value string) {
	if value != "" {
		l.add(label, value)
	}
}

func (l *lines) flag(label string, set bool) {
	if set {
		l.add(label, "true")
	}
}

func (l *lines) secret(label string, s op.Secret) {
	if s.Name != "" {
		// By name and version, never by value: a key may be published.
		l.add(label, "secret "+s.Name+" "+s.Version) // neither has a space
		// As a digest: it may be long, and something made of a secret's name.
		l.addIf(label+" around", digestOf(s.Around))
		return
	}
	l.add(label, "literal "+string(digest.Of([]byte(s.Value))))
}

func digestOf(text string) string {
	if text == "" {
		return ""
	}
	return string(digest.Of([]byte(text)))
}

// Key names what the step makes upon the layer parent ("" for none).
func (s Step) Key(parent digest.Digest) store.Key {
	return sum(s.Lines(parent))
}

func sum(l []Line) store.Key {
	var text strings.Builder
	for _, line := range l {
		text.WriteString(line.String() + "\n")
	}
	return store.Key(digest.Of([]byte(text.String())))
}

// Lines lists everything that the step's key depends on.
//
// Left out on purpose: the names of image and step and their place in the
// definition (they change no byte), whether a boot step wants a boot of its own (that
// shows in what is one step), the timeout (it decides whether the step
// ends, not how), the accelerator and the number of processors, and what tests,
// publishing and targets say.
//
// Of a network it counts that there is one, and which names lead to hosts that the
// definition chose: such a name may be another server, which makes another image. The
// way there does not count: name servers and a proxy bring the same bytes from the same
// names, a port of the host that is opened is a server only with a name or an address
// that stands elsewhere, and a port that leads into the guest makes nothing. Boot steps
// share a boot only if all of their networks is the same, which shows in what is one step.
func (s Step) Lines(parent digest.Digest) []Line {
	var l lines
	l.add("format", format)
	l.addIf("parent", string(parent))
	for _, p := range s.Pins {
		l.add("repository", p.Name+" "+strings.TrimPrefix(string(p.Checksum), "sha256:"))
	}
	switch {
	case s.Bootstrap != nil:
		bootstrapLines(&l, *s.Bootstrap, s.Size)
		return l
	case s.Install != nil:
		installLines(&l, *s.Install, s.Size)
		return l
	case s.Import != nil:
		l.add("import", "1")
		l.add("checksum", string(s.Import.Checksum))
		l.addIf("format", s.Import.Format)
		return l
	case s.Template != nil:
		// Which image of which repository it is says less than its bytes.
		l.add("template", "1")
		l.add("checksum", string(s.Template.Pin.Checksum))
		l.addIf("format", s.Template.Pin.Format)
		return l
	}
	if s.Operation != nil && op.Booted(s.Operation) {
		l.add("machine", bootModel)
	} else {
		l.add("machine", model)
	}
	if s.Grow != 0 {
		l.add("grow", "1")
		l.add("disk", strconv.FormatInt(s.Grow, 10))
		return l
	}
	for _, part := range s.Parts() {
		l.add("operation", fmt.Sprintf("%s %d", part.Operation.Kind(), part.Operation.Version()))
		operationLines(&l, part.Operation, part.Files)
		l.addIf("firmware", part.Firmware)
		if part.Network != nil {
			l.flag("network", true)
			hostLines(&l, *part.Network)
		}
	}
	l.flag("trim", s.Trim)
	return l
}

// hostLines are the names that lead where the definition says.
func hostLines(l *lines, n definition.Network) {
	for _, name := range slices.Sorted(maps.Keys(n.Hosts)) {
		l.add("host", name+" "+n.Hosts[name]) // neither has a space
	}
}

func bootstrapLines(l *lines, b definition.Bootstrap, size int64) {
	l.add("bootstrap", "mmdebstrap 1")
	l.add("disk", strconv.FormatInt(size, 10))
	l.add("suite", b.Suite)
	l.add("mirror", b.Mirror) // stays in the guest's sources.list
	l.add("component", b.Components...)
	l.add("variant", b.Variant)
	l.add("architecture", b.Architecture)
	l.add("include", slices.Compact(slices.Sorted(slices.Values(b.Include)))...) // their order changes nothing
	l.addIf("keyring", string(b.KeyringDigest))
}

// installLines are what an installation depends on. Where the installer was
// fetched from is left out, as its bytes are named; the tree that a guest fetches
// its packages from is in its command line.
func installLines(l *lines, i definition.Install, size int64) {
	l.add("installer", install.Version(i.Kind))
	l.add("machine", installModel)
	l.add("disk", strconv.FormatInt(size, 10))
	l.add("firmware", i.Firmware)
	l.addIf("disc", string(i.Location.Checksum))
	l.addIf("kernel", string(i.Kernel.Checksum))
	l.addIf("initrd", string(i.Initrd.Checksum))
	if i.Kind == "kickstart" || i.Kind == "autoyast" {
		l.addIf("tree", i.Location.URL)
	}
	l.secret("answers", i.Answers)
	l.add("argument", i.Arguments...)
	for _, f := range i.Files {
		l.add("file", f.Path)
		for _, input := range f.Inputs {
			inputLine(l, input)
		}
	}
	l.addIf("mirror proxy", i.MirrorProxy) // stays in the guest's configuration
	hostLines(l, i.Network)
}
