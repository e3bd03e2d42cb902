package definition

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"herdbook/internal/digest"
	"herdbook/internal/op"
)

// words is what stands in a suite, a component, a variant or a package's name.
var words = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9+._:~=*/-]*$`)

func (l *loader) bootstrap(b *hcl.Block, ctx *hcl.EvalContext) *Bootstrap {
	if kind := b.Labels[0]; kind != "mmdebstrap" {
		l.fault(b.LabelRanges[0], "Unknown kind of bootstrap", fmt.Sprintf("There is no bootstrap %q.%s", kind, suggest(kind, []string{"mmdebstrap"})))
		return nil
	}
	var raw struct {
		Suite        string   `hcl:"suite"`
		Mirror       string   `hcl:"mirror"`
		Components   []string `hcl:"components,optional"`
		Variant      string   `hcl:"variant,optional"`
		Include      []string `hcl:"include,optional"`
		Keyring      string   `hcl:"keyring,optional"`
		Architecture string   `hcl:"architecture,optional"`
		Refresh      string   `hcl:"refresh,optional"`
	}
	raw.Components, raw.Variant, raw.Architecture, raw.Refresh = []string{"main"}, "important", "amd64", "daily"
	given := l.decode(l.content(b.Body, nil, &raw), ctx, &raw)
	l.oneOf(given, "variant", raw.Variant, []string{"apt", "minbase", "buildd", "important", "standard", "required"})
	l.oneOf(given, "architecture", raw.Architecture, []string{"amd64"})
	l.oneOf(given, "refresh", raw.Refresh, []string{"never", "daily", "always"})
	for field, values := range map[string][]string{"suite": {raw.Suite}, "components": raw.Components, "include": raw.Include} {
		for _, v := range values {
			if attr := given[field]; attr != nil && !words.MatchString(v) {
				l.fault(attr.Expr.Range(), "Bad value", fmt.Sprintf("%s: %q is not a name.", field, v))
			}
		}
	}
	if attr := given["mirror"]; attr != nil {
		if u, err := url.Parse(raw.Mirror); err != nil || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "file" || strings.ContainsAny(raw.Mirror, " \t\n") || u.User != nil {
			l.fault(attr.Expr.Range(), "Bad mirror", fmt.Sprintf("%q is not the address of a mirror: an http, https or file URL without a password, which would stay in the image.", raw.Mirror))
		}
	}
	made := &Bootstrap{
		Suite: raw.Suite, Mirror: raw.Mirror, Components: raw.Components, Variant: raw.Variant, Include: raw.Include,
		Keyring: l.relative(raw.Keyring), Architecture: raw.Architecture, Refresh: raw.Refresh,
	}
	if made.Keyring != "" {
		text, err := l.readFile(raw.Keyring)
		if err != nil {
			l.fault(given["keyring"].Expr.Range(), "Keyring cannot be read", err.Error()+".")
		}
		made.KeyringDigest = digest.Of([]byte(text))
	}
	return made
}

// oneOf reports a value that is not one of a few.
func (l *loader) oneOf(given hcl.Attributes, field, value string, allowed []string) {
	attr := given[field]
	if attr == nil || slices.Contains(allowed, value) {
		return
	}
	l.fault(attr.Expr.Range(), "Unknown value", fmt.Sprintf("%s: there is no %q.%s", field, value, suggest(value, allowed)))
}

// stepCommon are the arguments that every step takes.
type stepCommon struct {
	Network *bool  `hcl:"network,optional"`
	Timeout string `hcl:"timeout,optional"`

	network     networkArguments
	stepNetwork stepNetworkArguments
}

// targets are what the arguments are decoded into.
func (c *stepCommon) targets() []any { return []any{c, &c.network, &c.stepNetwork} }

// has tells whether the step has a network; usual, if its arguments do not say.
func (c *stepCommon) has(usual bool) bool {
	if c.Network != nil {
		return *c.Network
	}
	return usual
}

// stepBooted are the arguments that every step in the booted machine takes beside
// them. Of those, boot steps alone share a boot.
type stepBooted struct {
	Firmware string `hcl:"firmware,optional"`
}

type stepShared struct {
	Reboot bool `hcl:"reboot,optional"`
}

// booted reads what a step in the booted machine says of its boot.
func (l *loader) booted(step *Step, content *hcl.BodyContent, ctx *hcl.EvalContext) {
	booted, shared := stepBooted{Firmware: "bios"}, stepShared{}
	given := l.decode(content, ctx, &booted)
	l.oneOf(given, "firmware", booted.Firmware, []string{"bios", "uefi"})
	l.decode(content, ctx, &shared)
	step.Firmware, step.Reboot = booted.Firmware, shared.Reboot
}

func (l *loader) step(b *hcl.Block, image *Image, ctx *hcl.EvalContext) {
	kind, label := b.Labels[0], b.Labels[1]
	if !slices.Contains(op.StepKinds(), kind) {
		l.fault(b.LabelRanges[0], "Unknown kind of step", fmt.Sprintf("There is no step %q.%s", kind, suggest(kind, op.StepKinds())))
		return
	}
	if !name.MatchString(label) {
		l.fault(b.LabelRanges[1], "Bad name", fmt.Sprintf("%q cannot be the name of a step. %s", label, nameRule))
	}
	for _, s := range image.Steps {
		if s.Kind == kind && s.Name == label {
			l.fault(b.DefRange, "Step declared twice", fmt.Sprintf("The image %q has a step %s %q at %s already.", image.Name, kind, label, s.Position))
		}
	}
	o, _ := op.New(kind)
	var common stepCommon
	before := l.met
	targets := append(common.targets(), o)
	if op.Booted(o) {
		targets = append(targets, &stepBooted{})
	}
	if _, shares := o.(*op.Boot); shares {
		targets = append(targets, &stepShared{})
	}
	content := l.content(b.Body, nil, targets...)
	l.decode(content, ctx, o)
	given := l.decodeAll(content, ctx, common.targets())
	step := Step{Kind: kind, Name: label, Operation: o, Timeout: l.duration(given, common.Timeout), Position: l.position(b.DefRange)}
	if common.has(wantsNetwork(o)) {
		n := l.network(given, common.network, common.stepNetwork)
		step.Network = &n
	} else {
		l.noNetwork(given)
		if p, ok := o.(*op.Puppet); ok && p.Server != "" {
			l.fault(given["network"].Expr.Range(), "No network", "Without one the server cannot be reached. Leave network away.")
		}
	}
	if op.Booted(o) {
		l.booted(&step, content, ctx)
	}
	if l.met == before { // a field that is missing would fail its check too
		l.check(o, content, b.DefRange)
		step.Files = l.reads(o, content)
	}
	image.Steps = append(image.Steps, step)
}

// wantsNetwork tells whether a step has a network if it does not say.
func wantsNetwork(o op.Operation) bool {
	switch o := o.(type) {
	case *op.Packages:
		return o.Update || len(o.Install) > 0
	case *op.Puppet:
		return o.Server != "" || o.Package() != ""
	}
	return false
}

// reads lists and digests what a step has of the host.
func (l *loader) reads(o op.Operation, content *hcl.BodyContent) []Input {
	source, ok := op.HostSource(o)
	if !ok {
		return nil
	}
	switch o := o.(type) {
	case *op.Puppet:
		return l.modules(source, content.Attributes["modules"].Expr.Range())
	case *op.Ansible:
		return l.playbook(o, content.Attributes["playbook"].Expr.Range())
	}
	return l.inputs(source, content.Attributes["source"].Expr.Range())
}

// checked is what knows the rules of its fields, as op.Operation does.
type checked interface{ Check() []op.Problem }

// check reports what is wrong with the arguments of a block.
func (l *loader) check(o checked, content *hcl.BodyContent, block hcl.Range) {
	for _, p := range o.Check() {
		at := block
		if attr := content.Attributes[p.Field]; attr != nil {
			at = attr.Expr.Range()
		}
		detail := strings.ToUpper(p.Message[:1]) + p.Message[1:] + "."
		if p.Hint != "" {
			detail += " Hint: " + p.Hint + "."
		}
		l.fault(at, "Bad argument", detail)
	}
}

// maxInputs bounds the files of a copy step.
const maxInputs = 1 << 20

// inputs lists and digests what a copy step reads.
func (l *loader) inputs(source string, at hcl.Range) []Input {
	if l.blind {
		return nil
	}
	list, err := Inputs(l.path(source))
	if err != nil {
		l.fault(at, "Source cannot be read", strings.ReplaceAll(err.Error(), l.dir+"/", "")+".")
	}
	return list
}

// Inputs lists and digests a file, or a directory with all that is below it.
func Inputs(top string) ([]Input, error) {
	return readTree(top, func(fs.DirEntry) bool { return false })
}

// readTree is Inputs without what is left out.
func readTree(top string, leaveOut func(fs.DirEntry) bool) ([]Input, error) {
	var list []Input
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && path != top && leaveOut(entry) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if err == nil && len(list) >= maxInputs {
			return fmt.Errorf("there are more than %d files", maxInputs)
		}
		var input Input
		if err == nil {
			input, err = readInput(top, path)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", path, unwrapPath(err))
		}
		list = append(list, input)
		return nil
	})
	return list, err
}

func readInput(top, path string) (Input, error) {
	name, err := filepath.Rel(top, path)
	if err != nil {
		return Input{}, err
	}
	stat, err := os.Lstat(path)
	if err != nil {
		return Input{}, err
	}
	i := Input{Name: filepath.ToSlash(name), Path: path, Mode: stat.Mode().String()}
	switch {
	case stat.IsDir():
	case stat.Mode()&fs.ModeSymlink != 0:
		i.Link, err = os.Readlink(path)
		i.Mode = fs.ModeSymlink.String() // its permissions mean nothing
	case stat.Mode().IsRegular():
		f, err := os.Open(path)
		if err != nil {
			return i, err
		}
		defer f.Close()
		i.Digest, i.Size, err = digest.OfReader(f)
		return i, err
	default:
		err = errors.New("it is neither a file, a directory nor a link")
	}
	return i, err
}

func (l *loader) sysprep(b *hcl.Block, image *Image, ctx *hcl.EvalContext) {
	o := &op.Sysprep{}
	var raw struct {
		Timeout string `hcl:"timeout,optional"`
	}
	content := l.content(b.Body, nil, o, &raw)
	l.decode(content, ctx, o)
	given := l.decode(content, ctx, &raw)
	l.check(o, content, b.DefRange)
	image.Steps = append(image.Steps, Step{Kind: "sysprep", Operation: o, Timeout: l.duration(given, raw.Timeout), Position: l.position(b.DefRange)})
}
