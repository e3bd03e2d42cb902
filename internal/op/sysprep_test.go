package op

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"herdbook/internal/peer"
)

func names(operations []SysprepOperation) []string {
	var list []string
	for _, o := range operations {
		list = append(list, o.Name)
	}
	return list
}

func TestSelectSysprep(t *testing.T) {
	all := names(SysprepOperations)
	var defaults []string
	for _, o := range SysprepOperations {
		if o.Default {
			defaults = append(defaults, o.Name)
		}
	}
	without := func(list []string, out ...string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(name string) bool { return slices.Contains(out, name) })
	}
	for _, c := range []struct {
		operations, enable []string
		want               []string
	}{
		{nil, nil, defaults},
		{[]string{"defaults"}, nil, defaults},
		{[]string{"all"}, nil, all},
		{[]string{"-machine-id"}, nil, nil}, // it begins with none
		{[]string{"defaults,-machine-id"}, nil, without(defaults, "machine-id")},
		{[]string{"-machine-id,defaults"}, nil, defaults},
		{[]string{"all,-defaults"}, nil, without(all, defaults...)},
		{[]string{"all", "-all", "tmp-files"}, nil, []string{"tmp-files"}},
		{[]string{"utmp,machine-id", "utmp"}, nil, []string{"machine-id", "utmp"}},
		{nil, []string{"utmp", "fs-uuids,machine-id"}, []string{"machine-id", "utmp", "fs-uuids"}},
		{[]string{"-utmp,hostname"}, []string{"utmp,machine-id"}, []string{"hostname", "machine-id"}},
	} {
		got, problems := SelectSysprep(c.operations, c.enable)
		if len(problems) > 0 || !slices.Equal(names(got), c.want) {
			t.Errorf("%q %q: %v %v, want %v", c.operations, c.enable, names(got), problems, c.want)
		}
	}
}

func TestSelectSysprepSaysWhatIsMeant(t *testing.T) {
	for _, c := range []struct{ field, name, message, hint string }{
		{"operations", "machine-di", `no sysprep operation "machine-di"`, `the nearest is "machine-id"`},
		{"operations", "-ssh-hostkey", `no sysprep operation "ssh-hostkey"`, `the nearest is "ssh-hostkeys"`},
		{"operations", "--utmp", `no sysprep operation "-utmp"`, `the nearest is "utmp"`},
		{"operations", "make-coffee-now", `no sysprep operation "make-coffee-now"`, "docs/sysprep.md lists all of them"},
		{"operations", "", "the name of an operation is empty", "look for a comma too many"},
		{"enable", "all", `no sysprep operation "all"`, ""},
		{"enable", "-utmp", `no sysprep operation "-utmp"`, `the nearest is "utmp"`},
	} {
		operations, enable := []string{c.name}, []string(nil)
		if c.field == "enable" {
			operations, enable = enable, operations
		}
		selected, problems := SelectSysprep(operations, enable)
		if len(selected) > 0 || len(problems) != 1 || problems[0].Field != c.field || problems[0].Message != c.message ||
			c.hint != "" && problems[0].Hint != c.hint {
			t.Errorf("%q: %v %+v", c.name, names(selected), problems)
		}
	}
}

func TestTheTableIsInOrder(t *testing.T) {
	byName := func(a, b SysprepOperation) int { return strings.Compare(a.Name, b.Name) }
	var files, device []SysprepOperation
	for _, o := range SysprepOperations {
		if o.Phase == SysprepDevice {
			device = append(device, o)
		} else if len(device) > 0 {
			t.Errorf("%s comes behind those of the disk", o.Name)
		} else if o.Name != "customize" && o.Name != "installer-proxy" {
			files = append(files, o)
		}
		if o.Heading == "" || strings.HasSuffix(o.Heading, ".") || !strings.HasSuffix(o.Description, ".") || o.Difference != "" && !strings.HasSuffix(o.Difference, ".") {
			t.Errorf("%s: a heading has no full stop, a description has: %+v", o.Name, o)
		}
	}
	if !slices.IsSortedFunc(files, byName) || !slices.IsSortedFunc(device, byName) {
		t.Error("they are not in the order of their names")
	}
	all := names(SysprepOperations)
	if slices.Index(all, "customize") != len(files)+1 || slices.Index(all, "installer-proxy") > slices.Index(all, "installer-leftovers") {
		t.Error("customize or installer-proxy is not in its place")
	}
}

// virt-sysprep's lists of operations mean the same for us: every name is there,
// and is a default where it is one there.
func TestTheTableHasVirtSyspreps(t *testing.T) {
	peer.NeedTool(t, "virt-sysprep")
	count := 0
	for line := range strings.Lines(peer.Run(t, "virt-sysprep", "--list-operations")) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		count++
		i := slices.IndexFunc(SysprepOperations, func(o SysprepOperation) bool { return o.Name == name })
		if i < 0 {
			t.Errorf("there is no operation %s", name)
			continue
		}
		if theirs := strings.HasPrefix(rest, "*"); theirs != SysprepOperations[i].Default {
			t.Errorf("%s: default %v, theirs %v", name, SysprepOperations[i].Default, theirs)
		}
	}
	if count < 40 {
		t.Errorf("only %d operations were listed", count)
	}
}

// docs/sysprep.md is made of the table; go test -update writes it.
func TestTheDocumentIsThatOfTheTable(t *testing.T) {
	var b strings.Builder
	b.WriteString(sysprepPreface)
	for _, o := range SysprepOperations {
		on := "off"
		if o.Default {
			on = "on"
		}
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | %s |\n", o.Name, o.Name, on, o.Heading)
	}
	for _, o := range SysprepOperations {
		fmt.Fprintf(&b, "\n## %s\n\n", o.Name)
		if !o.Default {
			b.WriteString("*Off by default.* ")
		}
		if o.Phase == SysprepDevice {
			b.WriteString("*On the disk, behind all others.* ")
		}
		b.WriteString(o.Description + "\n")
		if o.Difference != "" {
			b.WriteString("\nvirt-sysprep: " + o.Difference + "\n")
		}
	}
	peer.Golden(t, "../../../docs/sysprep.md", []byte(b.String()))
}

const sysprepPreface = `<!-- Made of the table in internal/op by "go test ./internal/op -update". -->
# sysprep

` + "`sysprep {}`" + ` makes an image fit to be cloned: what names one machine is removed, or comes anew at a clone's first boot. The names
are virt-sysprep's, and so are the defaults and the way to choose:

| field | meaning |
|---|---|
| ` + "`operations`" + ` | a list of ` + "`NAME`, `-NAME`, `defaults`, `-defaults`, `all`, `-all`" + `, which add up in the order given, beginning with none (or with those of ` + "`enable`" + `); an entry may hold several with commas between them |
| ` + "`enable`" + ` | exactly these |
| ` + "`remove_user_accounts`, `keep_user_accounts`" + ` | for ` + "`user-account`" + ` |
| ` + "`scripts`" + ` | for ` + "`script`" + `: texts, such as ` + "`[file(\"clean.sh\")]`" + ` |
| ` + "`machine_id`" + ` | for ` + "`machine-id`" + `: ` + "`\"uninitialized\"`" + ` |

Without any choice the defaults are done. They are carried out in the order of this list. A place that an image does not have
is no error, and what decides is which files there are, not what the distribution is called. No link of the guest is followed out of it.

| operation | default | what it does |
|---|---|---|
`
