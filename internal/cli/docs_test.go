package cli

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"herdbook/internal/customize"
	"herdbook/internal/definition"
	"herdbook/internal/identity"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/signed"
	"herdbook/internal/target"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", name))
	peer.Must(t, err)
	return string(text)
}

var hclBlock = regexp.MustCompile("(?s)```hcl\n(.*?)```")

// Every definition that the documents show is one, with the starter's key in
// the place where it lies for a user. Those that show a part stand in a whole.
func TestDefinitionsOfTheDocumentsAreValid(t *testing.T) {
	shown := 0
	for _, name := range []string{"README.md", "docs/definition.md", "docs/puppet.md", "docs/tests.md"} {
		for _, m := range hclBlock.FindAllStringSubmatch(read(t, name), -1) {
			text := m[1]
			if !strings.Contains(text, "image ") {
				text += "\nimage \"x\" {\n  bootstrap \"mmdebstrap\" {\n    suite = \"bookworm\"\n    mirror = \"http://mirror.invalid\"\n  }\n}\n"
			}
			dir := t.TempDir()
			key, err := signed.NewKey("test", time.Now())
			peer.Must(t, err)
			peer.Must(t, os.Mkdir(filepath.Join(dir, "keys"), 0o700))
			peer.Must(t, os.WriteFile(filepath.Join(dir, "keys/images.asc"), key, 0o600))
			peer.Must(t, os.WriteFile(filepath.Join(dir, "herdbook.hcl"), []byte(text), 0o644))
			if _, err := definition.Load(dir, definition.Options{}); err != nil {
				t.Errorf("%s shows a definition that is none: %v\n%s", name, err, text)
			}
			shown++
		}
	}
	if shown < 3 {
		t.Errorf("only %d definitions were found", shown)
	}
}

// The examples are definitions in the canonical style, one for every way to start
// that needs more than a line.
func TestTheExamplesAreValid(t *testing.T) {
	// What only the user can know is asked for, not made up.
	asked := map[string]map[string]string{"import": {"image": "https://mirror.invalid/disk.qcow2", "checksum": "sha512:" + strings.Repeat("0f", 64)}}
	for _, name := range []string{"preseed", "kickstart", "autoinstall", "autoyast", "import"} {
		path := filepath.Join("../../examples", name, "herdbook.hcl")
		if _, err := definition.Load(path, definition.Options{Variables: asked[name]}); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		for variable := range asked[name] {
			others := maps.Clone(asked[name])
			delete(others, variable)
			_, err := definition.Load(path, definition.Options{Variables: others})
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("The variable %q has no default", variable)) {
				t.Errorf("%s without %s: %v", path, variable, err)
			}
		}
		text := read(t, filepath.Join("examples", name, "herdbook.hcl"))
		if formatted, err := definition.Format([]byte(text), path); err != nil || string(formatted) != text {
			t.Errorf("%s is not as herdbook fmt writes it: %v", path, err)
		}
	}
}

// The table of a repository has every field that its block takes, and no other.
func TestEveryFieldOfARepositoryIsDocumented(t *testing.T) {
	_, section, _ := strings.Cut(read(t, "docs/definition.md"), "\n## repository\n")
	section, _, _ = strings.Cut(section, "\n## ")
	documented := map[string]bool{}
	var text strings.Builder
	for _, row := range regexp.MustCompile("(?m)^\\| `.*$").FindAllString(section, -1) {
		for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(strings.Split(row, "|")[1], -1) {
			documented[m[1]] = true
			fmt.Fprintf(&text, "  %s = null\n", m[1])
		}
	}
	path := filepath.Join(t.TempDir(), "herdbook.hcl")
	peer.Must(t, os.WriteFile(path, []byte("repository \"r\" {\n"+text.String()+"}\n"), 0o644))
	var problems *definition.Problems
	if _, err := definition.Load(path, definition.Options{}); !errors.As(err, &problems) {
		t.Fatalf("a repository without any field: %v", err)
	}
	for _, d := range problems.Diagnostics {
		if d.Summary == "Unsupported argument" {
			t.Errorf("docs/definition.md names what a repository does not take: %s", d.Detail)
		}
	}
	fields := reflect.TypeFor[definition.Repository]()
	for i := range fields.NumField() {
		name, _, _ := strings.Cut(fields.Field(i).Tag.Get("hcl"), ",")
		if name != "" && !documented[name] {
			t.Errorf("docs/definition.md has no row for %s of a repository", name)
		}
	}
}

// The tables of tests have every kind and every field that there is: a block of each kind
// with all of them has no problem but its values, and takes no other.
func TestEveryFieldOfATestIsDocumented(t *testing.T) {
	text := read(t, "docs/definition.md")
	fields := func(heading string) map[string]bool {
		_, section, _ := strings.Cut(text, "\n"+heading+"\n")
		section, _, _ = strings.Cut(section, "\n##")
		list := map[string]bool{}
		for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(section, -1) {
			list[m[1]] = true
		}
		return list
	}
	common := fields("## test \"KIND\"")
	for _, kind := range definition.TestKinds() {
		if !common[kind] {
			t.Errorf("docs/definition.md has no row for the test %s", kind)
		}
		delete(common, kind)
	}
	headings := map[string]string{"command": `### test "boots", test "command"`, "goss": `### test "goss"`, "port": `### test "port"`, "service": `### test "service"`}
	types := map[string][]any{
		"command": {op.CommandCheck{}, struct {
			Name string `hcl:"name"`
		}{}},
		"port": {op.PortCheck{}}, "service": {op.ServiceCheck{}},
	}
	for kind, heading := range headings {
		documented := fields(heading)
		var body strings.Builder
		for _, list := range []map[string]bool{common, documented} {
			for name := range list {
				fmt.Fprintf(&body, "    %s = null\n", name)
			}
		}
		path := filepath.Join(t.TempDir(), "herdbook.hcl")
		peer.Must(t, os.WriteFile(path, []byte("image \"x\" {\n  test \""+kind+"\" {\n"+body.String()+"  }\n}\n"), 0o644))
		var problems *definition.Problems
		if _, err := definition.Load(path, definition.Options{}); !errors.As(err, &problems) {
			t.Fatalf("an image of a test alone: %v", err)
		}
		for _, d := range problems.Diagnostics {
			if d.Summary == "Unsupported argument" {
				t.Errorf("docs/definition.md names what the test %s does not take: %s", kind, d.Detail)
			}
		}
		for _, value := range types[kind] {
			for i := range reflect.TypeOf(value).NumField() {
				name, _, _ := strings.Cut(reflect.TypeOf(value).Field(i).Tag.Get("hcl"), ",")
				if name != "" && !documented[name] {
					t.Errorf("docs/definition.md has no row for %s of the test %s", name, kind)
				}
			}
		}
	}
}

func TestEveryKindOfStepIsDocumented(t *testing.T) {
	text := read(t, "docs/definition.md")
	for _, kind := range op.StepKinds() {
		if !strings.Contains(text, "| `"+kind+"` |") {
			t.Errorf("docs/definition.md has no row for the step %s", kind)
		}
	}
}

// The table of docs/puppet.md has every field of the step, and no other.
func TestEveryFieldOfPuppetIsDocumented(t *testing.T) {
	_, section, _ := strings.Cut(read(t, "docs/puppet.md"), "\n## Fields\n")
	section, _, _ = strings.Cut(section, "\n## ")
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `.*$").FindAllString(section, -1) {
		for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(strings.Split(row, "|")[1], -1) {
			documented[m[1]] = true
		}
	}
	fields := reflect.TypeFor[op.Puppet]()
	taken := map[string]bool{"firmware": true, "timeout": true, "network": true, "hosts": true, "host_ports": true, "dns": true, "proxy": true, "forward": true}
	for i := range fields.NumField() {
		if name, _, _ := strings.Cut(fields.Field(i).Tag.Get("hcl"), ","); name != "" {
			taken[name] = true
		}
	}
	if !maps.Equal(documented, taken) {
		t.Errorf("docs/puppet.md has rows for %v, the step takes %v", slices.Sorted(maps.Keys(documented)), slices.Sorted(maps.Keys(taken)))
	}
}

// The table of docs/customize.md has every option that there is, with its shape and
// the step that it is, and no other.
func TestEveryOptionOfCustomizeIsDocumented(t *testing.T) {
	text := read(t, "docs/customize.md")
	rows := map[string]string{} // the option → its row
	for _, row := range regexp.MustCompile("(?m)^\\| `--.*$").FindAllString(text, -1) {
		cells := strings.Split(strings.ReplaceAll(row, `\|`, "/"), "|")
		for _, m := range regexp.MustCompile("`--([a-z-]+)").FindAllStringSubmatch(cells[1], -1) {
			if _, ok := customize.Lookup(m[1]); !ok {
				t.Errorf("docs/customize.md names --%s, which is no option", m[1])
			}
			rows[m[1]] = row
		}
	}
	for _, option := range customize.Table() {
		row := rows[option.Name]
		shape := strings.TrimSpace("--" + option.Name + " " + strings.ReplaceAll(option.Argument, "|", `\|`))
		switch {
		case row == "":
			t.Errorf("docs/customize.md has no row for --%s", option.Name)
		case option.Refused != "":
			if !strings.Contains(row, "| refused: ") {
				t.Errorf("docs/customize.md does not say that --%s is refused", option.Name)
			}
		case !strings.Contains(row, "`"+shape+"`"):
			t.Errorf("docs/customize.md does not show %s", shape)
		case option.Kind != "" && !strings.Contains(row, "| `"+option.Kind+"` |"):
			t.Errorf("docs/customize.md does not say that --%s is the step %s", option.Name, option.Kind)
		}
	}
}

// The section of a target has every field that its block takes.
func TestEveryFieldOfATargetIsDocumented(t *testing.T) {
	sections := strings.Split(read(t, "docs/targets.md"), "\n## ")
	for _, kind := range target.Kinds() {
		to, _ := target.New(kind, "web")
		i := slices.IndexFunc(sections, func(s string) bool {
			heading, _, _ := strings.Cut(s, "\n")
			return slices.Contains(strings.Split(heading, ", "), kind)
		})
		if i < 0 {
			t.Errorf("docs/targets.md has no section for %s", kind)
			continue
		}
		fields := reflect.TypeOf(to).Elem()
		for j := range fields.NumField() {
			name, _, _ := strings.Cut(fields.Field(j).Tag.Get("hcl"), ",")
			if name != "" && !strings.Contains(sections[i], "`"+name+"`") && !strings.Contains(sections[i], "`"+name+" = ") {
				t.Errorf("docs/targets.md does not say %s of %s", name, kind)
			}
		}
	}
}

func TestEverythingThatNamesAMachineIsDocumented(t *testing.T) {
	text := read(t, "docs/definition.md")
	for _, rule := range identity.Rules() {
		name, policy, _ := strings.Cut(rule, " ")
		if !strings.Contains(text, "| `"+name+"` | "+policy+" |") {
			t.Errorf("docs/definition.md has no row for %s, which is %q", name, policy)
		}
	}
}

func TestEveryCommandIsDocumented(t *testing.T) {
	text := read(t, "docs/commands.md")
	root := (&app{}).root()
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		path := strings.TrimPrefix(c.CommandPath(), "herdbook ")
		if c != root && c.Name() != "help" && !strings.Contains(text, "`"+path) {
			t.Errorf("docs/commands.md does not name %s", path)
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(root)
	// And the other way round: what is said to be there is.
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)").FindAllStringSubmatch(text, -1) {
		if c, _, err := root.Find([]string{m[1]}); m[1] != "completion" && (err != nil || c == root) {
			t.Errorf("docs/commands.md names %s, which is no command", m[1])
		}
	}
	for _, m := range regexp.MustCompile("`--([a-z-]+)").FindAllStringSubmatch(text, -1) {
		if !hasFlag(root, m[1]) {
			t.Errorf("docs/commands.md names --%s, which no command has", m[1])
		}
	}
}

func hasFlag(c *cobra.Command, name string) bool {
	if name == "help" || c.Flags().Lookup(name) != nil || c.PersistentFlags().Lookup(name) != nil {
		return true
	}
	for _, sub := range c.Commands() {
		if hasFlag(sub, name) {
			return true
		}
	}
	return false
}
