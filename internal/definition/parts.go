package definition

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
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
	content := l.content(b.Body, nil, o, &common)
	l.decode(content, ctx, o)
	given := l.decode(content, ctx, &common)
	step := Step{Kind: kind, Name: label, Operation: o, Timeout: l.duration(given, common.Timeout), Position: l.position(b.DefRange)}
	p, isPackages := o.(*op.Packages)
	step.Network = isPackages && (p.Update || len(p.Install) > 0)
	if common.Network != nil {
		step.Network = *common.Network
	}
	if l.met == before { // a field that is missing would fail its check too
		l.check(o, content, b.DefRange)
		if source, ok := op.HostSource(o); ok {
			step.Files = l.inputs(source, content.Attributes["source"].Expr.Range())
		}
	}
	image.Steps = append(image.Steps, step)
}

// check reports what an operation finds wrong with its arguments.
func (l *loader) check(o op.Operation, content *hcl.BodyContent, block hcl.Range) {
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
	var list []Input
	err := filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
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

func (l *loader) test(b *hcl.Block, image *Image, ctx *hcl.EvalContext) {
	switch kind := b.Labels[0]; kind {
	case "boots":
	case "clones":
		l.clones(b, image, ctx)
		return
	default:
		l.fault(b.LabelRanges[0], "Unknown kind of test", fmt.Sprintf("There is no test %q.%s", kind, suggest(kind, []string{"boots", "clones"})))
		return
	}
	var raw struct {
		Firmware string `hcl:"firmware,optional"`
		Timeout  string `hcl:"timeout,optional"`
	}
	raw.Firmware = "bios"
	content := l.content(b.Body, []hcl.BlockHeaderSchema{{Type: "command", LabelNames: []string{"name"}}}, &raw)
	given := l.decode(content, ctx, &raw)
	l.oneOf(given, "firmware", raw.Firmware, []string{"bios", "uefi"})
	t := Test{Kind: "boots", Firmware: raw.Firmware, Timeout: l.duration(given, raw.Timeout), Position: l.position(b.DefRange)}
	for _, c := range content.Blocks {
		var command struct {
			Run        string `hcl:"run"`
			Expect     string `hcl:"expect,optional"`
			ExitStatus int    `hcl:"exit_status,optional"`
		}
		inner := l.content(c.Body, nil, &command)
		l.decode(inner, ctx, &command)
		if _, err := regexp.Compile(command.Expect); err != nil {
			l.fault(inner.Attributes["expect"].Expr.Range(), "Bad pattern", fmt.Sprintf("%v.", err))
		}
		t.Commands = append(t.Commands, Command{c.Labels[0], command.Run, command.Expect, command.ExitStatus})
	}
	image.Tests = append(image.Tests, t)
}

func (l *loader) publish(b *hcl.Block, image *Image, ctx *hcl.EvalContext, d *Definition) {
	var raw struct {
		Name string `hcl:"name,optional"`
	}
	raw.Name = image.Name
	given := l.decode(l.content(b.Body, nil, &raw), ctx, &raw)
	if attr := given["name"]; attr != nil && !name.MatchString(raw.Name) {
		l.fault(attr.Expr.Range(), "Bad name", fmt.Sprintf("%q cannot be the name of a published image. %s", raw.Name, nameRule))
	}
	known := map[string]bool{}
	for _, r := range d.Repositories {
		known[r.Name] = true
	}
	if repository := b.Labels[0]; !known[repository] {
		l.fault(b.LabelRanges[0], "Unknown repository", fmt.Sprintf("The definition has no repository %q.%s", repository, suggest(repository, slices.Collect(maps.Keys(known)))))
	}
	p := Publish{b.Labels[0], raw.Name}
	if before, twice := l.published[p]; twice {
		l.fault(b.DefRange, "Published twice", fmt.Sprintf("The repository %q gets an image %q at %s already.", p.Repository, p.Name, before))
	} else {
		l.published[p] = l.position(b.DefRange)
	}
	image.Publish = append(image.Publish, p)
}

func (l *loader) target(b *hcl.Block, image *Image, ctx *hcl.EvalContext) {
	if kind := b.Labels[0]; kind != "docker" {
		l.fault(b.LabelRanges[0], "Unknown kind of target", fmt.Sprintf("There is no target %q.%s", kind, suggest(kind, []string{"docker"})))
		return
	}
	var raw struct {
		Tags    []string `hcl:"tags,optional"`
		Command []string `hcl:"command,optional"`
		Output  string   `hcl:"output,optional"`
	}
	raw.Tags, raw.Output = []string{image.Name + ":latest"}, "dist"
	given := l.decode(l.content(b.Body, nil, &raw), ctx, &raw)
	for _, tag := range raw.Tags {
		if attr := given["tags"]; attr != nil && !imageTag.MatchString(tag) {
			l.fault(attr.Expr.Range(), "Bad tag", fmt.Sprintf(`%q is not a tag such as "NAME:latest".`, tag))
		}
	}
	t := &Docker{raw.Tags, raw.Command, l.path(raw.Output)}
	if slices.ContainsFunc(image.Targets, func(o Target) bool { return o.Docker.Output == t.Output }) {
		l.fault(b.DefRange, "Target declared twice", fmt.Sprintf("The image %q has a target %q with the same output already.", image.Name, "docker"))
	}
	image.Targets = append(image.Targets, Target{"docker", t})
}

// imageTag is a reference as registries take it: a name of lower-case parts and a tag.
var imageTag = regexp.MustCompile(`^[a-z0-9]+(?:[._/:-]+[a-z0-9]+)*:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
