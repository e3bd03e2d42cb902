package definition

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"herdbook/internal/identity"
	"herdbook/internal/op"
)

// TestKinds are the kinds of tests.
func TestKinds() []string {
	return []string{"boots", "clones", "command", "goss", "port", "service"}
}

// Test is a proof that the image works.
type Test struct {
	Kind     string // of TestKinds
	Name     string // that tells it from the image's others of its kind; "" if it needs none
	Firmware string // bios or uefi
	Network  bool   // the booted machine has one that leads out
	Alone    bool   // no other test is asked in the same boot
	Timeout  time.Duration
	Commands []op.CommandCheck // of boots, and the one of command
	Port     *op.PortCheck     // of port
	Service  *op.ServiceCheck  // of service
	Goss     *Goss             // of goss
	Allow    []string          // of clones: what they may share, of identity.Names
	Require  []string          // of clones: what they may not, although clones often do
	Position string
}

// Label names a test of an image to people.
func (t Test) Label() string {
	kind := fmt.Sprintf("test %q", t.Kind)
	if t.Name != "" {
		kind += fmt.Sprintf(" %q", t.Name)
	}
	return kind + " by " + strings.ToUpper(t.Firmware)
}

// Goss is what goss asks, and by which program.
type Goss struct {
	File    string  // the gossfile's name in the guest
	Files   []Input // it alone, or the directory that it lies in
	Vars    []Input // the file of variables; nil for none
	Program []Input // nil: the guest's own, else the host's
}

// gossFile is the gossfile of a directory.
const gossFile = "goss.yaml"

// portWait is how long a port may take until it is open, where nothing is said.
const portWait = time.Minute

// testCommon are the arguments that every test in a booted machine takes.
type testCommon struct {
	Firmware string `hcl:"firmware,optional"`
	Timeout  string `hcl:"timeout,optional"`
	Network  bool   `hcl:"network,optional"`
	Alone    bool   `hcl:"alone,optional"`
}

func (l *loader) test(b *hcl.Block, image *Image, ctx *hcl.EvalContext) {
	kind := b.Labels[0]
	read, ok := map[string]func(*hcl.Block, *Test, *hcl.EvalContext){
		"boots": l.boots, "clones": l.clones, "command": l.commandTest, "goss": l.goss, "port": l.portTest, "service": l.serviceTest,
	}[kind]
	if !ok {
		l.fault(b.LabelRanges[0], "Unknown kind of test", fmt.Sprintf("There is no test %q.%s", kind, suggest(kind, TestKinds())))
		return
	}
	t := Test{Kind: kind, Position: l.position(b.DefRange)}
	read(b, &t, ctx)
	if len(t.Name) > maxTestName {
		l.fault(b.DefRange, "Bad name", fmt.Sprintf("The test's name has %d bytes; %d are the most.", len(t.Name), maxTestName))
	}
	t.Name = nameAmong(image.Tests, t)
	image.Tests = append(image.Tests, t)
}

// maxTestName is how long a test's name may be, in bytes: it stands in reports.
const maxTestName = 200

// nameAmong is the name by which a test is told from those before it.
func nameAmong(tests []Test, t Test) string {
	plain := t.Name
	for n := 2; slices.ContainsFunc(tests, func(o Test) bool { return o.Label() == t.Label() }); n++ {
		t.Name = strings.TrimSpace(fmt.Sprintf("%s %d", plain, n))
	}
	return t.Name
}

// common reads what is common to tests in a booted machine, and targets beside it.
func (l *loader) common(b *hcl.Block, t *Test, ctx *hcl.EvalContext, blocks []hcl.BlockHeaderSchema, targets ...any) (*hcl.BodyContent, hcl.Attributes) {
	raw := testCommon{Firmware: "bios"}
	content := l.content(b.Body, blocks, append(targets, &raw)...)
	given := l.decode(content, ctx, &raw)
	l.oneOf(given, "firmware", raw.Firmware, []string{"bios", "uefi"})
	t.Firmware, t.Network, t.Alone = raw.Firmware, raw.Network, raw.Alone
	t.Timeout = l.duration(given, raw.Timeout)
	for _, target := range targets {
		for name, attr := range l.decode(content, ctx, target) {
			given[name] = attr
		}
	}
	return content, given
}

func (l *loader) boots(b *hcl.Block, t *Test, ctx *hcl.EvalContext) {
	content, _ := l.common(b, t, ctx, []hcl.BlockHeaderSchema{{Type: "command", LabelNames: []string{"name"}}})
	for _, c := range content.Blocks {
		command := op.CommandCheck{Name: c.Labels[0]}
		before := l.met
		inner := l.content(c.Body, nil, &command)
		l.decode(inner, ctx, &command)
		if l.met == before {
			l.check(&command, inner, c.DefRange)
		}
		t.Commands = append(t.Commands, command)
	}
}

// clones reads a test that compares two clones.
func (l *loader) clones(b *hcl.Block, t *Test, ctx *hcl.EvalContext) {
	var raw struct {
		Firmware string   `hcl:"firmware,optional"`
		Timeout  string   `hcl:"timeout,optional"`
		Allow    []string `hcl:"allow,optional"`
		Require  []string `hcl:"require,optional"`
	}
	raw.Firmware = "bios"
	given := l.decode(l.content(b.Body, nil, &raw), ctx, &raw)
	l.oneOf(given, "firmware", raw.Firmware, []string{"bios", "uefi"})
	names := identity.Names()
	for field, list := range map[string][]string{"allow": raw.Allow, "require": raw.Require} {
		for _, name := range list {
			if !slices.Contains(names, name) {
				l.fault(given[field].Expr.Range(), "Unknown value", fmt.Sprintf("%s: nothing is called %q that names a machine.%s", field, name, suggest(name, names)))
			} else if field == "require" && slices.Contains(raw.Allow, name) {
				l.fault(given[field].Expr.Range(), "Allowed and required", fmt.Sprintf("%q is in allow, too: leave it out of one of them.", name))
			}
		}
	}
	t.Firmware, t.Timeout, t.Allow, t.Require = raw.Firmware, l.duration(given, raw.Timeout), raw.Allow, raw.Require
}

func (l *loader) commandTest(b *hcl.Block, t *Test, ctx *hcl.EvalContext) {
	var command op.CommandCheck
	var raw struct {
		Name string `hcl:"name,optional"`
	}
	before := l.met
	content, _ := l.common(b, t, ctx, nil, &command, &raw)
	if l.met == before {
		l.check(&command, content, b.DefRange)
	}
	if t.Name = raw.Name; t.Name == "" {
		t.Name = firstLine(command.Run)
	}
	t.Commands = []op.CommandCheck{command}
}

// firstLine is the beginning of a script, to call it by.
func firstLine(script string) string {
	const most = 40 // characters
	line, rest, _ := strings.Cut(strings.TrimSpace(script), "\n")
	line = strings.TrimSpace(line)
	if r := []rune(line); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	if rest != "" {
		line += "…"
	}
	return line
}

func (l *loader) portTest(b *hcl.Block, t *Test, ctx *hcl.EvalContext) {
	port := op.PortCheck{Protocol: "tcp", Open: true, Wait: portWait}
	var raw struct {
		Wait string `hcl:"wait,optional"`
	}
	before := l.met
	content, given := l.common(b, t, ctx, nil, &port, &raw)
	if attr := given["wait"]; attr != nil {
		var err error
		if port.Wait, err = time.ParseDuration(raw.Wait); err != nil || port.Wait < 0 || port.Wait > time.Hour {
			l.fault(attr.Expr.Range(), "Bad wait", fmt.Sprintf(`%q is not how long a port may take to open; write it as "30s" or "5m", at most 1h.`, raw.Wait))
		}
	}
	if l.met == before {
		l.check(&port, content, b.DefRange)
	}
	t.Port, t.Name = &port, port.String()
}

func (l *loader) serviceTest(b *hcl.Block, t *Test, ctx *hcl.EvalContext) {
	service := op.ServiceCheck{Running: true}
	before := l.met
	content, _ := l.common(b, t, ctx, nil, &service)
	if l.met == before {
		l.check(&service, content, b.DefRange)
	}
	t.Service, t.Name = &service, service.Name
}

func (l *loader) goss(b *hcl.Block, t *Test, ctx *hcl.EvalContext) {
	var raw struct {
		File string `hcl:"file,optional"`
		Vars string `hcl:"vars,optional"`
		Goss string `hcl:"goss,optional"`
	}
	raw.File = gossFile
	content, _ := l.common(b, t, ctx, nil, &raw)
	at := func(field string) hcl.Range {
		if attr := content.Attributes[field]; attr != nil {
			return attr.Expr.Range()
		}
		return b.DefRange
	}
	t.Name, t.Goss = filepath.Base(raw.File), &Goss{File: filepath.Base(raw.File)}
	if t.Goss.Files = l.laid(raw.File, true, at("file")); len(t.Goss.Files) > 0 && t.Goss.Files[0].Digest == "" {
		t.Goss.File = gossFile
		if !slices.ContainsFunc(t.Goss.Files, func(i Input) bool { return i.Name == gossFile }) {
			l.fault(at("file"), "No gossfile", fmt.Sprintf("The directory %s has no %s.", raw.File, gossFile))
		}
	}
	if raw.Vars != "" {
		t.Goss.Vars = l.laid(raw.Vars, false, at("vars"))
	}
	if raw.Goss != "" {
		t.Goss.Program = l.laid(raw.Goss, false, at("goss"))
	}
}

// laid lists what is laid down for a test: a file, or a directory where it may be one.
func (l *loader) laid(name string, directory bool, at hcl.Range) []Input {
	if l.blind {
		return nil
	}
	list, err := Laid(l.path(name), directory)
	if err != nil {
		l.fault(at, "File cannot be read", strings.ReplaceAll(err.Error(), l.dir+"/", "")+".")
		return nil
	}
	return list
}

// Laid lists and digests what a path leads to, links followed: a file, or a directory
// with all that is below it where it may be one.
func Laid(path string, directory bool) ([]Input, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, unwrapPath(err))
	}
	stat, err := os.Stat(real)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, unwrapPath(err))
	}
	if !stat.Mode().IsRegular() && !(directory && stat.IsDir()) {
		return nil, fmt.Errorf("read %s: it is no regular file", path)
	}
	return Inputs(real)
}
