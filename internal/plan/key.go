package plan

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/identity"
	"herdbook/internal/install"
	"herdbook/internal/op"
	"herdbook/internal/store"
)

// format is raised when the meaning of all keys changes.
const format = "herdbook key 1"

// model is the machine that the workshop gives to a guest. It enters the keys
// of steps that run there, since drivers and device names can be seen by them.
const model = "workshop 1"

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
// definition (they change no byte), the timeout (it decides whether the step
// ends, not how), the accelerator and the number of processors, and what tests,
// publishing and targets say.
func (s Step) Lines(parent digest.Digest) []Line {
	var l lines
	l.add("format", format)
	l.addIf("parent", string(parent))
	for _, p := range s.Pins {
		l.add("repository", p.Name+" "+string(p.Digest))
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
	}
	l.add("machine", model)
	l.add("operation", fmt.Sprintf("%s %d", s.Operation.Kind(), s.Operation.Version()))
	operationLines(&l, s.Operation, s.Files)
	l.flag("network", s.Network)
	l.flag("trim", s.Trim)
	return l
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
}

// operationLines writes what one operation depends on. A kind that stands here
// by mistake with too little would be a wrong cache hit, so an unknown one
// panics: the test that goes through all kinds would meet it first.
func operationLines(l *lines, o op.Operation, files []definition.Input) {
	switch o := o.(type) {
	case *op.Packages:
		l.flag("update", o.Update)
		l.add("install", slices.Compact(slices.Sorted(slices.Values(o.Install)))...)
		l.add("remove", slices.Compact(slices.Sorted(slices.Values(o.Remove)))...)
	case *op.Run:
		l.add("script", o.Script)
		for _, name := range slices.Sorted(maps.Keys(o.Environment)) {
			l.secret("environment "+name, o.Environment[name])
		}
	case *op.File:
		l.add("path", o.Path)
		l.add("content", o.Content)
		ownership(l, o.Mode, o.Owner, o.Group)
		l.flag("keep", o.Keep)
	case *op.Copy:
		l.add("destination", o.Destination) // the source's name changes nothing, its content does
		l.addIf("name", o.Name)
		ownership(l, "", o.Owner, o.Group)
		inputLines(l, files)
	case *op.Delete:
		l.add("path", o.Paths...)
	case *op.User:
		userLines(l, o)
	case *op.Password:
		l.add("user", o.User)
		if !o.Password.IsZero() {
			l.secret("password", o.Password)
		}
		l.addIf("hash", o.Hash)
		l.flag("disabled", o.Disabled)
		l.flag("locked", o.Locked)
		l.addIf("crypto", o.Crypto)
	case *op.SSHKey:
		l.add("user", o.User)
		l.add("key", o.Keys...)
	case *op.Hostname:
		l.add("name", o.Name)
	case *op.Timezone:
		l.add("zone", o.Zone)
	case *op.Service:
		serviceLines(l, o)
	case *op.AppendLine, *op.Chmod, *op.Chown, *op.Duplicate, *op.Move, *op.Link, *op.Mkdir, *op.Touch, *op.Truncate, *op.Scrub, *op.Edit:
		fileLines(l, o)
	case *op.TarIn:
		l.add("destination", o.Destination)
		inputLines(l, files)
	case *op.Sysprep:
		sysprepLines(l, o)
	case *op.Firstboot:
		firstbootLines(l, o)
	case *op.Relabel:
		relabelLines(l, o)
	case *op.Bootloader, *op.Agent:
	default:
		panic(fmt.Sprintf("plan: operation %T has no key", o))
	}
}

func ownership(l *lines, mode, owner, group string) {
	l.addIf("mode", mode)
	l.addIf("owner", owner)
	l.addIf("group", group)
}

// fileLines are those of the operations on files that the guest has.
func fileLines(l *lines, o op.Operation) {
	switch o := o.(type) {
	case *op.AppendLine:
		l.add("path", o.Path)
		l.add("line", o.Line)
	case *op.Chmod:
		l.add("path", o.Paths...)
		ownership(l, o.Mode, "", "")
	case *op.Chown:
		l.add("path", o.Paths...)
		ownership(l, "", o.Owner, o.Group)
	case *op.Duplicate:
		l.add("source", o.Source)
		l.add("destination", o.Destination)
	case *op.Move:
		l.add("source", o.Source)
		l.add("destination", o.Destination)
	case *op.Link:
		l.add("target", o.Target)
		l.add("path", o.Paths...)
	case *op.Mkdir:
		l.add("path", o.Paths...)
		ownership(l, o.Mode, "", "")
	case *op.Touch:
		l.add("path", o.Paths...)
	case *op.Truncate:
		l.add("path", o.Paths...)
		l.flag("recursive", o.Recursive)
	case *op.Scrub:
		l.add("path", o.Paths...)
	case *op.Edit:
		l.add("path", o.Path)
		l.add("expression", o.Expression)
	}
}

func userLines(l *lines, o *op.User) {
	l.add("name", o.Name)
	if o.UID != 0 {
		l.add("uid", strconv.Itoa(o.UID))
	}
	l.addIf("group", o.Group)
	l.add("supplementary", o.Groups...)
	l.addIf("shell", o.Shell)
	l.addIf("home", o.Home)
	l.flag("system", o.System)
}

func serviceLines(l *lines, o *op.Service) {
	l.add("name", o.Name)
	if o.Enabled != nil {
		l.add("enabled", strconv.FormatBool(*o.Enabled))
	}
	l.flag("masked", o.Masked)
}

func relabelLines(l *lines, o *op.Relabel) {
	l.add("exclude", o.Exclude...)
	l.flag("at boot", o.AtBoot)
}

func firstbootLines(l *lines, o *op.Firstboot) {
	l.add("name", o.Name)
	l.addIf("script", o.Script)
	l.addIf("command", o.Command)
	l.add("install", o.Install...)
	if o.Retries != 0 {
		l.add("retries", strconv.Itoa(o.Retries))
	}
	l.flag("optional", o.Optional)
}

// sysprepLines spell the selection out, so that a new default is a new key.
func sysprepLines(l *lines, o *op.Sysprep) {
	for _, operation := range o.Selected() {
		l.add("sysprep", operation.Name)
	}
	l.add("remove account", o.RemovedAccounts()...)
	l.add("keep account", o.KeptAccounts()...)
	l.add("script", o.Scripts...)
	l.addIf("machine-id", o.MachineID)
}

func inputLines(l *lines, files []definition.Input) {
	for _, f := range files {
		inputLine(l, f)
	}
}

func inputLine(l *lines, f definition.Input) {
	// Modification times are left out: a fresh checkout has others.
	l.add("input", fmt.Sprintf("%s %s %d %s %s", f.Mode, f.Digest, f.Size, strconv.Quote(f.Name), strconv.Quote(f.Link)))
}

// TestKey names the proof that a layer passed a test.
func TestKey(layer digest.Digest, t definition.Test) store.Key {
	var l lines
	l.add("format", format)
	l.add("layer", string(layer))
	l.add("test", t.Kind+" 1")
	l.add("firmware", t.Firmware)
	if t.Kind == "clones" {
		l.add("rule", identity.Rules()...) // spelled out, so that a new one is a new key
		l.add("allow", t.Allow...)
		l.add("require", t.Require...)
	}
	for _, c := range t.Commands {
		l.add("command", c.Run)
		l.add("expect", c.Expect)
		l.add("status", strconv.Itoa(c.ExitStatus))
	}
	return sum(l)
}
