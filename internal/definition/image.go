package definition

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// name is what images and steps may be called: their names become file names.
var name = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

const nameRule = "A name has lower-case letters, digits, dots, underscores and hyphens, and begins with a letter or a digit."

// maxInstances bounds for_each.
const maxInstances = 1000

// load reads the merged body of all files.
func (l *loader) load(body hcl.Body) *Definition {
	content, diags := body.Content(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
		{Type: "variable", LabelNames: []string{"name"}}, {Type: "locals"},
		{Type: "repository", LabelNames: []string{"name"}}, {Type: "image", LabelNames: []string{"name"}},
	}})
	l.report(diags)
	blocks := content.Blocks.ByType()
	ctx := &hcl.EvalContext{Functions: l.functions(), Variables: map[string]cty.Value{"var": l.variables(blocks["variable"])}}
	l.locals(blocks["locals"], ctx)
	d := &Definition{Dir: l.dir, Repositories: l.repositories(blocks["repository"], ctx)}
	d.Images = l.images(blocks["image"], ctx, d)
	if len(blocks["image"]) == 0 && !l.diags.HasErrors() {
		l.report(hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "No image", Detail: "The definition has no image block."}})
	}
	return d
}

// instance is one image of a block: the only one, or one of its for_each.
type instance struct {
	block *hcl.Block
	name  string
	each  cty.Value // NilVal without for_each
}

func (l *loader) images(blocks hcl.Blocks, ctx *hcl.EvalContext, d *Definition) []Image {
	instances, references := l.instances(blocks, ctx)
	ctx.Variables["image"] = cty.ObjectVal(references)
	var list []Image
	at := map[string]hcl.Range{}
	for _, i := range instances {
		scope := ctx
		if i.each != cty.NilVal {
			scope = ctx.NewChild()
			scope.Variables = map[string]cty.Value{"each": i.each}
		}
		if before, twice := at[i.name]; twice {
			l.fault(i.block.DefRange, "Image declared twice", fmt.Sprintf("There is an image %q at %s already.", i.name, l.position(before)))
			continue
		}
		at[i.name] = i.block.DefRange
		list = append(list, l.image(i, scope, d))
	}
	return l.order(list, at)
}

// instances expands for_each, and gives what image.NAME stands for: a name, or
// the names by key.
func (l *loader) instances(blocks hcl.Blocks, ctx *hcl.EvalContext) ([]instance, map[string]cty.Value) {
	var list []instance
	references := map[string]cty.Value{}
	for _, b := range blocks {
		label := b.Labels[0]
		if !name.MatchString(label) {
			l.fault(b.LabelRanges[0], "Bad name", fmt.Sprintf("%q cannot be the name of an image. %s", label, nameRule))
		}
		partial, _, _ := b.Body.PartialContent(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "for_each"}}})
		attr := partial.Attributes["for_each"]
		if attr == nil {
			references[label] = cty.StringVal(label)
			list = append(list, instance{b, label, cty.NilVal})
			continue
		}
		names := map[string]cty.Value{}
		each := l.forEach(attr, ctx)
		for _, key := range slices.Sorted(maps.Keys(each)) {
			full := label + "-" + key
			if !name.MatchString(full) {
				l.fault(attr.Expr.Range(), "Bad key", fmt.Sprintf("The key %q makes the name %q. %s", key, full, nameRule))
			}
			names[key] = cty.StringVal(full)
			list = append(list, instance{b, full, cty.ObjectVal(map[string]cty.Value{"key": cty.StringVal(key), "value": each[key]})})
		}
		references[label] = cty.ObjectVal(names)
	}
	return list, references
}

func (l *loader) forEach(attr *hcl.Attribute, ctx *hcl.EvalContext) map[string]cty.Value {
	value, ok := l.evaluate(attr.Expr, ctx)
	if !ok {
		return nil
	}
	t := value.Type()
	switch {
	case isSecret(value) || value.IsNull():
	case (t.IsMapType() || t.IsObjectType()) && value.LengthInt() <= maxInstances:
		return value.AsValueMap()
	case t.IsSetType() && value.LengthInt() == 0:
		return nil
	case t.IsSetType() && t.ElementType() == cty.String && value.LengthInt() <= maxInstances && value.HasElement(cty.NullVal(cty.String)).False():
		all := map[string]cty.Value{}
		for _, v := range value.AsValueSlice() {
			all[v.AsString()] = v
		}
		return all
	}
	l.fault(attr.Expr.Range(), "Wrong value", fmt.Sprintf("for_each: want a map, or a set of strings made by toset(), of at most %d elements.", maxInstances))
	return nil
}

// imageBlocks are what an image may hold.
var imageBlocks = []hcl.BlockHeaderSchema{
	{Type: "disk"}, {Type: "bootstrap", LabelNames: []string{"kind"}}, {Type: "install", LabelNames: []string{"kind"}}, {Type: "import"}, {Type: "template", LabelNames: []string{"repository"}},
	{Type: "step", LabelNames: []string{"kind", "name"}},
	{Type: "sysprep"}, {Type: "test", LabelNames: []string{"kind"}}, {Type: "publish", LabelNames: []string{"repository"}},
	{Type: "target", LabelNames: []string{"kind"}},
}

func (l *loader) image(i instance, ctx *hcl.EvalContext, d *Definition) Image {
	var raw struct {
		From    string `hcl:"from,optional"`
		ForEach string `hcl:"for_each,optional"` // evaluated before
	}
	content := l.content(i.block.Body, imageBlocks, &raw)
	delete(content.Attributes, "for_each")
	given := l.decode(content, ctx, &raw)
	if raw.From == "" && given["from"] != nil {
		l.fault(given["from"].Expr.Range(), "Unknown image", `The name of the parent is empty; write it as from = image.NAME.`)
	}
	image := Image{Name: i.name, From: raw.From, Position: l.position(i.block.DefRange)}
	blocks := content.Blocks.ByType()
	l.start(i, content, &image, ctx, d)
	for _, b := range blocks["step"] {
		l.step(b, &image, ctx)
	}
	for n, b := range blocks["sysprep"] {
		if n > 0 {
			l.fault(b.DefRange, "Sysprep twice", "An image is generalised once, behind its last step.")
			continue
		}
		l.sysprep(b, &image, ctx)
	}
	for _, b := range blocks["test"] {
		l.test(b, &image, ctx)
	}
	for _, b := range blocks["publish"] {
		l.publish(b, &image, ctx, d)
	}
	for _, b := range blocks["target"] {
		l.target(b, &image, ctx)
	}
	return image
}

// start reads how the image begins: exactly one way.
func (l *loader) start(i instance, content *hcl.BodyContent, image *Image, ctx *hcl.EvalContext, d *Definition) {
	blocks := content.Blocks.ByType()
	starts := len(blocks["bootstrap"]) + len(blocks["install"]) + len(blocks["import"]) + len(blocks["template"])
	from := content.Attributes["from"]
	if from != nil {
		starts++
	}
	if starts != 1 {
		l.fault(i.block.DefRange, "Image needs one start", fmt.Sprintf("The image %q has %d: give either from = image.NAME or one block bootstrap, install, template or import.", i.name, starts))
	}
	for n, b := range blocks["disk"] {
		switch {
		case n > 0:
			l.fault(b.DefRange, "Disk twice", "An image has one disk block.")
		case from != nil:
			l.fault(b.DefRange, "Disk of a derived image", "The disk of an image with from is that of its parent.")
		case len(blocks["import"]) > 0:
			l.fault(b.DefRange, "Disk of an imported image", "An imported image has the disk that it comes with.")
		default:
			image.Disk.Size = l.diskSize(b, ctx)
		}
	}
	for _, b := range blocks["bootstrap"] {
		image.Bootstrap = l.bootstrap(b, ctx)
	}
	for _, b := range blocks["install"] {
		image.Install = l.install(b, ctx)
	}
	for _, b := range blocks["import"] {
		image.Import = l.imported(b, ctx)
	}
	for _, b := range blocks["template"] {
		image.Template = l.instantiated(b, ctx, d)
	}
	if image.Disk.Size == 0 && len(blocks["disk"]) == 0 && (image.Bootstrap != nil || image.Install != nil) {
		image.Disk.Size = 4 << 30
	}
}

// sizeText is a number of bytes with a binary unit.
var sizeText = regexp.MustCompile(`^([0-9]{1,6})([MGT])(?:iB)?$`)

func (l *loader) diskSize(b *hcl.Block, ctx *hcl.EvalContext) int64 {
	var raw struct {
		Size string `hcl:"size"`
	}
	attr := l.decode(l.content(b.Body, nil, &raw), ctx, &raw)["size"]
	if attr == nil {
		return 0
	}
	n := l.size(attr, raw.Size)
	if n != 0 && (n < 1<<30 || n > 64<<40) {
		l.fault(attr.Expr.Range(), "Bad size", "A disk has 1G to 64T.")
	}
	return n
}

// order puts parents before their children and reports circles.
func (l *loader) order(list []Image, at map[string]hcl.Range) []Image {
	byName := map[string]Image{}
	for _, i := range list {
		byName[i.Name] = i
	}
	var ordered []Image
	done, doing := map[string]bool{}, map[string]bool{}
	var visit func(i Image, path []string)
	visit = func(i Image, path []string) {
		path = append(path, i.Name)
		if doing[i.Name] {
			l.fault(at[i.Name], "Images in a circle", strings.Join(path, " is made from ")+".")
			return
		}
		if done[i.Name] {
			return
		}
		doing[i.Name] = true
		if parent, ok := byName[i.From]; ok && i.From != "" {
			visit(parent, path)
		} else if i.From != "" {
			l.fault(at[i.Name], "Unknown image", fmt.Sprintf("The image %q is made from %q, which is no image.%s", i.Name, i.From, suggest(i.From, slices.Collect(maps.Keys(byName)))))
		}
		doing[i.Name], done[i.Name] = false, true
		ordered = append(ordered, i)
	}
	for _, i := range list {
		visit(i, nil)
	}
	return ordered
}

// duration reads a time limit.
func (l *loader) duration(given hcl.Attributes, text string) time.Duration {
	attr := given["timeout"]
	if attr == nil {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > 48*time.Hour {
		l.fault(attr.Expr.Range(), "Bad timeout", fmt.Sprintf(`%q is not a time limit; write it as "90s", "20m" or "2h", at most 48h.`, text))
		return 0
	}
	return d
}

// relative makes a path of the definition absolute, or leaves it empty.
func (l *loader) relative(p string) string {
	if p == "" {
		return ""
	}
	return filepath.Clean(l.path(p))
}
