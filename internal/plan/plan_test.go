package plan

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/pin"
	"herdbook/internal/store"
)

const (
	mirror = "http://mirror.example.org/debian"
	suite  = "bookworm"
)

func of(text string) digest.Digest { return digest.Of([]byte(text)) }

func lockOf(release string) pin.Lock {
	return pin.Lock{}.With(pin.Pin{Name: pin.AptName(mirror, suite), URL: mirror + "/dists/bookworm/InRelease", Digest: of(release)})
}

// operations is one of every kind that a definition can have, all fields set.
func operations() []op.Operation {
	yes := true
	return []op.Operation{
		&op.Packages{Install: []string{"nginx", "curl"}, Remove: []string{"nano", "ed"}, Update: true},
		&op.Run{Script: "#!/bin/sh\ntrue\n", Environment: map[string]op.Secret{"A": {Value: "1"}, "TOKEN": {Value: "hunter2", Name: "TOKEN", Version: "3"}}},
		&op.File{Path: "/etc/motd", Content: "moo", Mode: "0644", Owner: "root", Group: "adm"},
		&op.Copy{Source: "files", Destination: "/srv", Owner: "www-data", Group: "www-data"},
		&op.Delete{Paths: []string{"/tmp/a", "/tmp/b*"}},
		&op.User{Name: "deploy", UID: 1001, Group: "users", Groups: []string{"sudo", "adm"}, Shell: "/bin/zsh", Home: "/srv/deploy", System: true},
		&op.Password{User: "root", Password: op.Secret{Value: "hunter2", Name: "ROOT", Version: "1"}, Hash: "$6$x", Locked: true},
		&op.SSHKey{User: "deploy", Keys: []string{"ssh-ed25519 AAAA a", "ssh-ed25519 BBBB b"}},
		&op.Hostname{Name: "cow"},
		&op.Timezone{Zone: "Europe/Berlin"},
		&op.Service{Name: "ssh.service", Enabled: &yes, Masked: true},
		&op.Sysprep{Operations: []string{"machine-id", "tmp-files"}},
	}
}

// files are what the copy step of operations reads.
func files() []definition.Input {
	return []definition.Input{
		{Name: ".", Path: "/home/me/files", Mode: "drwxr-xr-x"},
		{Name: "a", Path: "/home/me/files/a", Mode: "-rwxr-xr-x", Size: 5, Digest: of("alpha")},
		{Name: "link", Path: "/home/me/files/link", Mode: "L---------", Link: "a"},
	}
}

// herd is a definition of an image with every kind of step, a child of it, and
// an image that has nothing to do with them.
func herd() *definition.Definition {
	boot := func() *definition.Bootstrap {
		return &definition.Bootstrap{
			Suite: suite, Mirror: mirror, Components: []string{"main", "contrib"}, Variant: "important", Include: []string{"curl", "less"},
			Keyring: "/keys.gpg", KeyringDigest: of("keys"), Architecture: "amd64", Refresh: "daily",
		}
	}
	base := definition.Image{Name: "base", Bootstrap: boot(), Disk: definition.Disk{Size: 4 << 30}, Position: "herdbook.hcl:1"}
	for i, o := range operations() {
		step := definition.Step{Kind: o.Kind(), Name: fmt.Sprint("s", i), Operation: o, Timeout: time.Minute, Position: fmt.Sprintf("herdbook.hcl:%d", 10+i)}
		step.Network = o.Kind() == "packages"
		if o.Kind() == "copy" {
			step.Files = files()
		}
		base.Steps = append(base.Steps, step)
	}
	base.Tests = []definition.Test{{Kind: "boots", Firmware: "bios"}}
	child := definition.Image{Name: "child", From: "base", Steps: []definition.Step{
		{Kind: "hostname", Name: "name", Operation: &op.Hostname{Name: "calf"}},
		{Kind: "packages", Name: "more", Operation: &op.Packages{Install: []string{"htop"}}, Network: true},
	}}
	other := definition.Image{Name: "other", Bootstrap: boot(), Disk: definition.Disk{Size: 2 << 30}, Steps: []definition.Step{
		{Kind: "hostname", Name: "name", Operation: &op.Hostname{Name: "bull"}},
	}}
	return &definition.Definition{Dir: "/home/me", Images: []definition.Image{base, child, other}}
}

// keys resolves every step as if all had been built, each layer's digest coming
// from its key, and returns the keys as IMAGE/INDEX → key.
func keys(t interface{ Fatal(...any) }, d *definition.Definition, lock pin.Lock) map[string]store.Key {
	p, err := New(d, lock)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]store.Key{}
	for image, states := range p.Resolve(func(k store.Key) (digest.Digest, bool) { return of("layer of " + string(k)), true }) {
		for i, s := range states {
			if !s.Known || s.Layer == "" {
				t.Fatal("a step of a herd that is all built is not known")
			}
			all[fmt.Sprintf("%s/%02d", image, i)] = s.Key
		}
	}
	return all
}

// changed lists the steps whose keys differ.
func changed(a, b map[string]store.Key) []string {
	var list []string
	for name := range a {
		if a[name] != b[name] {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// behind lists a step of base and all that stand on it.
func behind(all map[string]store.Key, index int) []string {
	var list []string
	for name := range all {
		if strings.HasPrefix(name, "child/") || strings.HasPrefix(name, "base/") && name >= fmt.Sprintf("base/%02d", index) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

func TestKeysAreWhatTheyWere(t *testing.T) {
	p, err := New(herd(), lockOf("release"))
	peer.Must(t, err)
	var out strings.Builder
	for _, image := range p.Images {
		for _, step := range image.Steps {
			parent := of("parent")
			if step.Bootstrap != nil {
				parent = ""
			}
			fmt.Fprintf(&out, "%s › %s\n  key %s\n", image.Name, step.Label(), step.Key(parent))
			for _, line := range step.Lines(parent) {
				fmt.Fprintf(&out, "  %s\n", line)
			}
		}
		for _, test := range image.Tests {
			fmt.Fprintf(&out, "%s › test\n  key %s\n", image.Name, TestKey(of("layer"), test))
		}
	}
	if strings.Contains(out.String(), "hunter2") {
		t.Error("a secret's value stands in the lines of a key")
	}
	peer.Golden(t, "keys", []byte(out.String()))
}

// A change at a place changes the keys of that step and of those behind it, and
// of no other.
func TestAnyChangeChangesWhatStandsOnIt(t *testing.T) {
	before := keys(t, herd(), lockOf("release"))
	const steps = 2 // that a bootstrap begins with
	rapid.Check(t, func(t *rapid.T) {
		d := herd()
		base := &d.Images[0]
		lock := lockOf("release")
		index := 0
		switch what := rapid.SampledFrom([]string{"bootstrap", "size", "operation", "files", "network"}).Draw(t, "what"); what {
		case "bootstrap":
			field := rapid.SampledFrom([]string{"Suite", "Mirror", "Components", "Variant", "Include", "KeyringDigest", "Architecture"}).Draw(t, "field")
			vary(t, reflect.ValueOf(base.Bootstrap).Elem().FieldByName(field))
			lock = lock.With(pin.Pin{Name: pin.AptName(base.Bootstrap.Mirror, base.Bootstrap.Suite), Digest: of("release")})
		case "size":
			base.Disk.Size += rapid.Int64Range(1, 1<<40).Draw(t, "bytes")
		case "operation":
			i := rapid.IntRange(0, len(base.Steps)-1).Draw(t, "step")
			v := reflect.ValueOf(base.Steps[i].Operation).Elem()
			field := rapid.SampledFrom(fieldsInKey(v.Type())).Draw(t, "field")
			vary(t, v.FieldByName(field))
			index = steps + i
		case "files":
			i := slices.IndexFunc(base.Steps, func(s definition.Step) bool { return s.Kind == "copy" })
			input := &base.Steps[i].Files[rapid.IntRange(0, 2).Draw(t, "file")]
			field := rapid.SampledFrom([]string{"Name", "Mode", "Size", "Link", "Digest"}).Draw(t, "field")
			vary(t, reflect.ValueOf(input).Elem().FieldByName(field))
			index = steps + i
		case "network":
			i := rapid.IntRange(0, len(base.Steps)-1).Draw(t, "step")
			base.Steps[i].Network = !base.Steps[i].Network
			index = steps + i
		}
		after := keys(t, d, lock)
		if diff := cmp.Diff(behind(before, index), changed(before, after)); diff != "" {
			t.Fatalf("these keys changed (-want +got):\n%s", diff)
		}
	})
}

// A new state of a mirror concerns the steps that can see it, and what stands
// on them; here the bootstraps, and so all.
func TestANewReleaseChangesWhatSeesIt(t *testing.T) {
	before, after := keys(t, herd(), lockOf("release")), keys(t, herd(), lockOf("another"))
	if n := len(changed(before, after)); n != len(before) {
		t.Errorf("%d of %d keys changed", n, len(before))
	}
	p, err := New(herd(), lockOf("release"))
	peer.Must(t, err)
	q, err := New(herd(), lockOf("another"))
	peer.Must(t, err)
	for i, image := range p.Images {
		for n, step := range image.Steps {
			sees := step.Network || step.Bootstrap != nil
			if same := step.Key(of("same")) == q.Images[i].Steps[n].Key(of("same")); same == sees {
				t.Errorf("%s %s: sees the mirror: %v, has the same key: %v", image.Name, step.Label(), sees, same)
			}
		}
	}
}

// exceptions are fields that no key holds.
var exceptions = map[string]string{
	"Copy.Source":  "the name of the tree on the host changes nothing, its files do",
	"Copy.Payload": "set while building, always the same",
}

func fieldsInKey(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if _, left := exceptions[t.Name()+"."+t.Field(i).Name]; !left {
			names = append(names, t.Field(i).Name)
		}
	}
	return names
}

// Every field that an operation has or will have is in its key, or stands among
// the exceptions with its reason.
func TestEveryFieldIsInItsKey(t *testing.T) {
	kinds := map[string]bool{}
	for i, o := range operations() {
		kinds[o.Kind()] = true
		key := func(o op.Operation) store.Key {
			return Step{Step: definition.Step{Operation: o, Files: files()}}.Key(of("parent"))
		}
		for _, name := range slices.Concat(fieldsInKey(reflect.TypeOf(o).Elem()), slices.Collect(maps.Keys(exceptions))) {
			name, excepted := strings.CutPrefix(name, reflect.TypeOf(o).Elem().Name()+".")
			if !excepted && strings.Contains(name, ".") {
				continue // of another kind
			}
			rapid.Check(t, func(t *rapid.T) {
				other := operations()[i]
				vary(t, reflect.ValueOf(other).Elem().FieldByName(name))
				if (key(o) == key(other)) != excepted {
					t.Fatalf("%s.%s: the key is the same: %v\n%+v\n%+v", o.Kind(), name, !excepted, o, other)
				}
			})
		}
	}
	for _, kind := range append(op.StepKinds(), "sysprep") {
		if !kinds[kind] {
			t.Errorf("no operation of kind %s was looked at", kind)
		}
	}
}

// vary gives a field another value.
func vary(t *rapid.T, v reflect.Value) {
	before := fmt.Sprintf("%#v", reflect.Indirect(v).Interface())
	if v.Kind() == reflect.Pointer {
		fresh := reflect.New(v.Type().Elem())
		fresh.Elem().Set(v.Elem())
		v.Set(fresh)
		v = fresh.Elem()
	}
	text := rapid.StringMatching(`[a-z]{1,8}`)
	switch x := v.Addr().Interface().(type) {
	case *string:
		*x += text.Draw(t, "text")
	case *digest.Digest:
		*x = of(string(*x) + text.Draw(t, "content"))
	case *bool:
		*x = !*x
	case *int:
		*x += rapid.IntRange(1, 1000).Draw(t, "more")
	case *int64:
		*x += rapid.Int64Range(1, 1000).Draw(t, "more")
	case *[]string:
		varyList(t, x)
	case *op.Secret:
		varySecret(t, x)
	case *map[string]op.Secret:
		name := rapid.SampledFrom(slices.Sorted(maps.Keys(*x))).Draw(t, "variable")
		s := (*x)[name]
		varySecret(t, &s)
		(*x)[name] = s
	default:
		t.Fatalf("a field of type %s: say here how it varies", v.Type())
	}
	if after := fmt.Sprintf("%#v", v.Interface()); after == before && !strings.Contains(before, "ecret") {
		t.Fatalf("%s did not vary", before)
	}
}

// varyList changes what a list holds. Sysprep knows its operations only, so one
// goes; others get one.
func varyList(t *rapid.T, list *[]string) {
	if slices.Contains(*list, "machine-id") || rapid.Bool().Draw(t, "drop") {
		*list = slices.Delete(*list, 0, 1)
		return
	}
	*list = append(*list, rapid.StringMatching(`[a-z]{9,12}`).Draw(t, "element"))
}

// varySecret changes a secret as its key sees it: a literal's value, else its
// name or version.
func varySecret(t *rapid.T, s *op.Secret) {
	more := rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "more")
	switch {
	case s.Name == "":
		s.Value += more
	case rapid.Bool().Draw(t, "version"):
		s.Version += more
	default:
		s.Name += more
	}
}

// What changes no byte of a layer changes no key.
func TestWhatLeavesKeysAlone(t *testing.T) {
	before := keys(t, herd(), lockOf("release"))
	for name, change := range map[string]func(base *definition.Image){
		"position, timeout and name of a step": func(base *definition.Image) {
			for i := range base.Steps {
				base.Steps[i].Name += "-renamed"
				base.Steps[i].Timeout *= 7
				base.Steps[i].Position = "elsewhere.hcl:1"
			}
		},
		"the value of a secret": func(base *definition.Image) {
			base.Steps[1].Operation.(*op.Run).Environment["TOKEN"] = op.Secret{Value: "another", Name: "TOKEN", Version: "3"}
			base.Steps[6].Operation.(*op.Password).Password.Value = "another"
		},
		"the order of packages": func(base *definition.Image) {
			slices.Reverse(base.Bootstrap.Include)
			slices.Reverse(base.Steps[0].Operation.(*op.Packages).Install)
			slices.Reverse(base.Steps[0].Operation.(*op.Packages).Remove)
		},
		"the order of sysprep's operations": func(base *definition.Image) {
			slices.Reverse(base.Steps[11].Operation.(*op.Sysprep).Operations)
		},
		"tests, publishing, targets and refresh": func(base *definition.Image) {
			base.Tests, base.Publish = nil, []definition.Publish{{Repository: "r", Name: "n"}}
			base.Targets = []definition.Target{{Kind: "docker"}}
			base.Bootstrap.Refresh = "never"
		},
		"where the files of a copy lie": func(base *definition.Image) {
			base.Steps[3].Operation.(*op.Copy).Source = "/elsewhere"
			for i := range base.Steps[3].Files {
				base.Steps[3].Files[i].Path = "/elsewhere/" + base.Steps[3].Files[i].Name
			}
		},
		"where the keyring lies": func(base *definition.Image) { base.Bootstrap.Keyring = "/elsewhere.gpg" },
	} {
		d := herd()
		change(&d.Images[0])
		if list := changed(before, keys(t, d, lockOf("release"))); len(list) > 0 {
			t.Errorf("%s: changes the keys of %v", name, list)
		}
	}
}

func TestSysprepWithoutAListIsSysprepWithAll(t *testing.T) {
	key := func(operations []string) store.Key {
		return Step{Step: definition.Step{Operation: &op.Sysprep{Operations: operations}}}.Key("")
	}
	if key(nil) != key(op.SysprepOperations) {
		t.Error("they have different keys")
	}
}

func TestTestKeyHoldsTheTest(t *testing.T) {
	test := definition.Test{Kind: "boots", Firmware: "bios", Timeout: time.Minute, Position: "x:1", Commands: []definition.Command{{Name: "n", Run: "r", Expect: "e"}}}
	key := TestKey(of("layer"), test)
	for name, change := range map[string]func(*definition.Test){
		"firmware": func(t *definition.Test) { t.Firmware = "uefi" },
		"command":  func(t *definition.Test) { t.Commands = []definition.Command{{Name: "n", Run: "other", Expect: "e"}} },
		"expect":   func(t *definition.Test) { t.Commands = []definition.Command{{Name: "n", Run: "r", Expect: "f"}} },
		"status": func(t *definition.Test) {
			t.Commands = []definition.Command{{Name: "n", Run: "r", Expect: "e", ExitStatus: 1}}
		},
		"fewer": func(t *definition.Test) { t.Commands = nil },
	} {
		other := test
		change(&other)
		if TestKey(of("layer"), other) == key {
			t.Errorf("%s: the same key", name)
		}
	}
	if TestKey(of("another"), test) == key {
		t.Error("another layer: the same key")
	}
	test.Timeout, test.Position = time.Hour, "y:2"
	if TestKey(of("layer"), test) != key {
		t.Error("time limit and position change the key")
	}
}

func TestResolveStopsWhereALayerIsMissing(t *testing.T) {
	p, err := New(herd(), lockOf("release"))
	peer.Must(t, err)
	// The first three layers of base are there, and all of other.
	left := 3
	states := p.Resolve(func(k store.Key) (digest.Digest, bool) {
		if left == 0 {
			return "", false
		}
		left--
		return of(string(k)), true
	})
	base := states["base"]
	for i, s := range base {
		if s.Known != (i <= 3) || (s.Layer != "") != (i < 3) || (s.Key != "") != s.Known {
			t.Errorf("step %d: known %v, key %q, layer %q", i, s.Known, s.Key, s.Layer)
		}
	}
	if base[3].Parent != base[2].Layer {
		t.Error("the first missing step does not stand on the last layer")
	}
	for i, s := range states["child"] {
		if s.Known || s.Layer != "" {
			t.Errorf("child, step %d: it is known", i)
		}
	}
	if !states["other"][0].Known {
		t.Error("other stands on nothing, and is not known")
	}
}

func TestWithTakesAncestorsAlong(t *testing.T) {
	p, err := New(herd(), lockOf("release"))
	peer.Must(t, err)
	for _, c := range []struct{ names, want []string }{
		{nil, []string{"base", "child", "other"}},
		{[]string{"child"}, []string{"base", "child"}},
		{[]string{"other", "base"}, []string{"base", "other"}},
	} {
		part, err := p.With(c.names...)
		peer.Must(t, err)
		var got []string
		for _, image := range part.Images {
			got = append(got, image.Name)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("With(%v):\n%s", c.names, diff)
		}
	}
	if _, err := p.With("nosuch"); err == nil || !strings.Contains(err.Error(), `"nosuch"`) {
		t.Errorf("With(nosuch): %v", err)
	}
}

func TestAnUnpinnedSuiteIsAnError(t *testing.T) {
	if _, err := New(herd(), pin.Lock{}); err == nil || !strings.Contains(err.Error(), mirror) {
		t.Errorf("New: %v", err)
	}
}

func TestChangesTellWhatCameAndWent(t *testing.T) {
	line := func(text string) Line { return Line{text, "x"} }
	text := func(names ...string) []string {
		var list []string
		for _, n := range names {
			list = append(list, line(n).String())
		}
		return list
	}
	for _, c := range []struct {
		before []string
		now    []Line
		want   string
	}{
		{text("a", "b"), []Line{line("a"), line("b")}, " a  b"},
		{text("a", "old", "z"), []Line{line("a"), line("new"), line("z")}, " a +new -old  z"},
		{nil, []Line{line("a")}, "+a"},
		{text("a", "b"), nil, "-a -b"},
		{text("a", "b"), []Line{line("b"), line("a")}, "-a  b +a"},
	} {
		var got []string
		for _, change := range Changes(c.before, c.now) {
			got = append(got, string(change.Sign)+strings.TrimSuffix(change.Line, ` "x"`))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q → %v: %q, want %q", c.before, c.now, strings.Join(got, " "), c.want)
		}
	}
}
