package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/op"
	"herdbook/internal/pin"
	"herdbook/internal/store"
)

// subject is a value that has a key.
type subject struct {
	name string
	make func() any // a pointer to a fresh one
	key  func(any) store.Key
	// except lists the fields that are not in the key, with the reason.
	except map[string]string
}

const (
	noByte   = "it changes no byte of the image"
	whether  = "it decides whether the step ends, not how"
	notThere = "such a step has none"

	theWay = "it is the way to the same servers"

	notOfRepositories = "only the pins of templates have one"
)

func testKey(v any) store.Key { return TestKey("layer", *v.(*definition.Test)) }

// testAbsent is why fields of a test are in no key, and others of one kind.
func testAbsent(others ...string) map[string]string {
	m := map[string]string{"definition.Test.Timeout": whether, "definition.Test.Position": noByte, "definition.Test.Name": "it proves nothing"}
	for _, field := range others {
		m[field] = "it proves nothing"
	}
	return m
}

func stepKey(v any) store.Key { return v.(*Step).Key("parent") }

// subjects are a step of every kind, a bootstrap, and a test.
func subjects() []subject {
	list := []subject{{
		"bootstrap",
		func() any {
			return &Step{Bootstrap: herd().Images[0].Bootstrap, Size: 4 << 30, Pins: []pin.Pin{release(mirror, suite), release(mirror, "trixie")}}
		},
		stepKey,
		map[string]string{
			"definition.Step.Kind": noByte, "definition.Step.Name": noByte, "definition.Step.Timeout": whether, "definition.Step.Position": noByte,
			"definition.Step.Network": notThere, "definition.Step.Files": notThere, "definition.Step.Firmware": notThere, "definition.Step.Reboot": notThere, "plan.Step.Image": noByte, "plan.Step.Trim": notThere, "plan.Step.Grow": "a step of its own",
			"pin.Pin.URL": "where the same bytes came from", "pin.Pin.Dated": "for the reader",
			"pin.Pin.Revision": notOfRepositories, "pin.Pin.Format": notOfRepositories, "pin.Pin.Size": notOfRepositories,
			"definition.Bootstrap.Keyring": "its content is in the key", "definition.Bootstrap.Refresh": "when to ask; the answer is in the pin",
		},
	}, {
		"install",
		func() any {
			return &Step{Install: installed(), Size: 4 << 30, Pins: []pin.Pin{release(mirror, suite), release(mirror, "trixie")}}
		},
		stepKey,
		withStart(map[string]string{
			"definition.Medium.URL": "its bytes are named", "definition.Input.Path": "the name in the tree and the content are in the key",
			"definition.Install.Keyring": "what it verified is in the key", "definition.Install.Refresh": "when to ask; the answer is in the pin",
			"definition.Network.HostPorts": theWay, "definition.Network.DNS": theWay, "definition.Network.Proxy": notThere, "definition.Network.Forward": notThere,
			"definition.Forward.Host": notThere, "definition.Forward.Guest": notThere,
			"definition.Install.Memory": whether, "definition.Install.Timeout": whether, "definition.Install.Position": noByte,
		}),
	}, {
		"import",
		func() any {
			return &Step{Import: &definition.Import{Medium: medium("disk.vmdk"), Format: "vmdk"}}
		},
		stepKey,
		withStart(map[string]string{"definition.Medium.URL": "its bytes are named", "plan.Step.Size": "the image has its own"}),
	}, {
		"template",
		func() any { return &Step{Template: &Template{*stock(), stockPin()}} },
		stepKey,
		except(withStart(map[string]string{"plan.Step.Size": "the image has its own"}),
			"which bytes are meant is in the pin", "definition.Template.Repository", "definition.Template.Address", "definition.Template.Image",
			"definition.Template.Channel", "definition.Template.Revision", "definition.Template.Arch", "definition.Template.Refresh", "pin.Pin.Name"),
	}, {
		"grow",
		func() any { return &Step{Grow: 10 << 30} },
		stepKey,
		func() map[string]string {
			m := withStart(map[string]string{"plan.Step.Size": "the disk has its own"})
			delete(m, "plan.Step.Grow")
			return m
		}(),
	}, {
		"clones",
		func() any {
			return &definition.Test{Kind: "clones", Firmware: "bios", Allow: []string{"hostname"}, Require: []string{"fs-uuids"}}
		},
		testKey,
		except(testAbsent(), notThere, "definition.Test.Commands"),
	}, {
		"boots",
		func() any {
			return &definition.Test{Kind: "boots", Firmware: "bios", Commands: []op.CommandCheck{{Name: "a", Run: "b", Expect: "c", ExitStatus: 1, User: "d"}, {Name: "e"}}}
		},
		testKey,
		except(testAbsent("op.CommandCheck.Name"), "of clones only", "definition.Test.Allow", "definition.Test.Require"),
	}, {
		"port",
		func() any {
			return &definition.Test{Kind: "port", Firmware: "bios", Port: &op.PortCheck{Port: 80, Address: "::1", Protocol: "tcp", Wait: 1}}
		},
		testKey,
		except(testAbsent("op.PortCheck.Wait"), notThere, "definition.Test.Commands", "definition.Test.Allow", "definition.Test.Require"),
	}, {
		"service",
		func() any {
			return &definition.Test{Kind: "service", Firmware: "bios", Service: &op.ServiceCheck{Name: "a"}}
		},
		testKey,
		except(testAbsent(), notThere, "definition.Test.Commands", "definition.Test.Allow", "definition.Test.Require"),
	}, {
		"goss",
		func() any {
			return &definition.Test{Kind: "goss", Firmware: "bios", Goss: &definition.Goss{File: "goss.yaml", Files: files(), Vars: files(), Program: files()}}
		},
		testKey,
		except(testAbsent("definition.Input.Path"), notThere, "definition.Test.Commands", "definition.Test.Allow", "definition.Test.Require"),
	}}
	for n, o := range full() {
		list = append(list, subject{
			o.Kind(),
			func() any {
				s := &Step{Step: definition.Step{Kind: o.Kind(), Name: "n", Operation: full()[n], Network: network()}, Image: "i", Pins: []pin.Pin{release(mirror, suite), release(mirror, "trixie")}}
				if _, reads := op.HostSource(o); reads {
					s.Files = files()
				}
				if _, shares := o.(*op.Boot); shares {
					s.Shared = []definition.Step{{Kind: o.Kind(), Name: "m", Operation: &op.Boot{Script: "second", Environment: map[string]op.Secret{}}}}
				}
				return s
			},
			stepKey,
			map[string]string{
				"definition.Step.Kind": "the operation has its own", "definition.Step.Name": noByte, "definition.Step.Timeout": whether,
				"definition.Step.Position": noByte, "plan.Step.Image": noByte, "plan.Step.Size": "of a bootstrap only",
				"definition.Step.Reboot":       "it shows in what is one step",
				"definition.Network.HostPorts": theWay, "definition.Network.DNS": theWay, "definition.Network.Proxy": theWay,
				"definition.Network.Forward": noByte, "definition.Forward.Host": noByte, "definition.Forward.Guest": noByte,
				"pin.Pin.URL": "where the same bytes came from", "pin.Pin.Dated": "for the reader",
				"pin.Pin.Revision": notOfRepositories, "pin.Pin.Format": notOfRepositories, "pin.Pin.Size": notOfRepositories,
				"definition.Step.Files": "only copy and tar_in read files", // and are checked below
				"definition.Input.Path": "the name in the tree and the content are in the key", "op.Copy.Source": "the files are in the key",
				"op.Copy.Payload":   "a name on the way, set by the build",
				"op.Puppet.Timeout": whether, "op.Puppet.Retries": whether, "op.Puppet.Challenge": whether, "op.Puppet.Sign": whether, "op.Puppet.Clean": noByte,
				"op.CloudInit.AllowWarnings": whether, "op.Ansible.Vault": "it opens what is in the key",
				"op.Puppet.Modules": "the files are in the key", "op.Puppet.Payload": "a name on the way, set by the build",
				"op.TarIn.Source": "the archive is in the key", "op.TarIn.Payload": "a name on the way, set by the build",
			},
		})
		if _, reads := op.HostSource(o); reads {
			delete(list[len(list)-1].except, "definition.Step.Files")
		}
	}
	return list
}

// withStart adds what no step has in its key by which an image starts.
func withStart(except map[string]string) map[string]string {
	maps.Copy(except, map[string]string{
		"definition.Step.Kind": noByte, "definition.Step.Name": noByte, "definition.Step.Timeout": whether, "definition.Step.Position": noByte,
		"definition.Step.Network": notThere, "definition.Step.Files": notThere, "definition.Step.Firmware": notThere, "definition.Step.Reboot": notThere, "plan.Step.Image": noByte, "plan.Step.Trim": notThere, "plan.Step.Grow": "a step of its own",
		"pin.Pin.URL": "where the same bytes came from", "pin.Pin.Dated": "for the reader",
		"pin.Pin.Revision": notOfRepositories, "pin.Pin.Format": notOfRepositories, "pin.Pin.Size": notOfRepositories,
	})
	return except
}

// except adds fields that have one reason.
func except(to map[string]string, reason string, fields ...string) map[string]string {
	for _, field := range fields {
		to[field] = reason
	}
	delete(to, "pin.Pin.Format") // of a template it counts
	return to
}

func medium(name string) definition.Medium {
	return definition.Medium{URL: "http://mirror.invalid/" + name, Checksum: digest.Of([]byte(name)).Checksum()}
}

func installed() *definition.Install {
	return &definition.Install{
		Kind: "preseed", Location: medium("netinst.iso"), Kernel: medium("linux"), Initrd: medium("initrd.gz"),
		Answers: op.Secret{Value: "d-i x/y string z"}, Arguments: []string{"a=b", "c"},
		Files:       []definition.InitrdFile{{Path: "/late.sh", Inputs: files()}, {Path: "/b"}},
		MirrorProxy: "http://proxy.invalid:3128", Keyring: "/k.gpg", Refresh: "daily", Firmware: "bios", Memory: 1024, Network: *network(),
	}
}

// A tree that the guest itself fetches its packages from decides what comes out.
func TestTheTreeOfAnInstallerIsInItsKey(t *testing.T) {
	for kind, counts := range map[string]bool{"kickstart": true, "autoyast": true, "preseed": false, "autoinstall": false} {
		a, b := installed(), installed()
		a.Kind, b.Kind, b.Location.URL = kind, kind, "http://other.invalid/tree"
		if differ := (Step{Install: a}).Key("") != (Step{Install: b}).Key(""); differ != counts {
			t.Errorf("%s: another tree makes another key: %v, want %v", kind, differ, counts)
		}
	}
}

// A field that is new and not in the key fails here: put it into the key, or
// write the reason why not.
func TestEveryFieldIsInTheKeyOrHasAReason(t *testing.T) {
	for _, s := range subjects() {
		base := s.key(s.make())
		if again := s.key(s.make()); again != base {
			t.Errorf("%s: the same value has two keys", s.name)
		}
		for i := range variations(reflect.ValueOf(s.make()), "") {
			v := s.make()
			c := variations(reflect.ValueOf(v), "")[i]
			c.apply()
			reason := s.except[c.field]
			changed := s.key(v) != base
			switch {
			case reason != "" && changed:
				t.Errorf("%s: %s %s: the key changed, though %s", s.name, c.field, c.how, reason)
			case reason == "" && changed == c.same:
				t.Errorf("%s: %s %s: the key changed: %v, want %v", s.name, c.field, c.how, changed, !c.same)
			}
		}
	}
}

// The test above is worth nothing for a field that its examples leave empty or
// that it does not come to.
func TestTheExamplesReachEveryField(t *testing.T) {
	reached := map[string]bool{}
	kinds := map[string]bool{}
	for _, s := range subjects() {
		kinds[s.name] = true
		for _, c := range variations(reflect.ValueOf(s.make()), "") {
			reached[c.field] = true
		}
	}
	for _, v := range append([]any{Step{}, definition.Step{}, definition.Bootstrap{}, definition.Install{}, definition.InitrdFile{}, definition.Network{}, definition.Forward{}, definition.Medium{}, definition.Import{}, definition.Template{}, Template{}, definition.Input{}, definition.Test{}, op.CommandCheck{}, pin.Pin{}}, structs()...) {
		for i := range reflect.TypeOf(v).NumField() {
			field := reflect.TypeOf(v).Field(i)
			name := reflect.TypeOf(v).String() + "." + field.Name
			inner := field.Anonymous || field.Type.Kind() == reflect.Pointer || field.Type.Kind() == reflect.Struct || field.Name == "Operation" // whose own fields are reached
			if !inner && !reached[name] {
				t.Errorf("no example varies %s", name)
			}
		}
	}
	for _, kind := range op.StepKinds() {
		if !kinds[kind] {
			t.Errorf("no example of kind %s", kind)
		}
	}
}

// full is an operation of every kind that there is.
func full() []op.Operation {
	return append(operations(), &op.Bootloader{}, &op.Agent{Mask: []string{"a.service", "b.service"}})
}

func structs() []any {
	var list []any
	for _, o := range full() {
		list = append(list, reflect.ValueOf(o).Elem().Interface())
	}
	return list
}

func TestTheParentIsInTheKey(t *testing.T) {
	for _, s := range subjects() {
		step, ok := s.make().(*Step)
		if !ok {
			continue
		}
		if step.Key("a") == step.Key("b") || step.Key("") == step.Key("a") {
			t.Errorf("%s: upon another layer, the key is the same", s.name)
		}
	}
	if TestKey("a", definition.Test{}) == TestKey("b", definition.Test{}) {
		t.Error("the test of another layer has the same key")
	}
}

func TestCommandsOfATestAreKeptApart(t *testing.T) {
	seen := map[store.Key]string{}
	for _, commands := range [][]op.CommandCheck{
		nil, {{}}, {{}, {}}, {{Run: "a"}, {}}, {{}, {Run: "a"}}, {{Run: "a", Expect: "b"}}, {{Run: "a\nexpect \"b\""}}, {{Run: "a"}, {Expect: "b"}},
	} {
		key := TestKey("layer", definition.Test{Kind: "boots", Firmware: "bios", Commands: commands})
		if other, twice := seen[key]; twice {
			t.Errorf("%+v has the key of %s", commands, other)
		}
		seen[key] = fmt.Sprintf("%+v", commands)
	}
}

// stranger is an operation that the plan does not know.
type stranger struct{ op.Hostname }

func TestAnUnknownOperationHasNoKey(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an unknown operation got a key")
		}
	}()
	Step{Step: definition.Step{Operation: &stranger{}}}.Key("")
}

// Two operations have the same key if and only if they say the same, however
// the texts in them look.
func TestNoTwoOperationsShareAKey(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, example := range structs() {
		said, keys := map[string]store.Key{}, map[store.Key]string{}
		for range 1500 {
			v := reflect.New(reflect.TypeOf(example))
			scribble(r, v.Elem())
			o := v.Interface().(op.Operation)
			key := Step{Step: definition.Step{Operation: o}}.Key("")
			text := canonical(o)
			if other, ok := said[text]; ok && other != key {
				t.Fatalf("%s has two keys", text)
			}
			if other, ok := keys[key]; ok && other != text {
				t.Fatalf("%s and %s share a key", text, other)
			}
			said[text], keys[key] = key, text
		}
		if n := reflect.TypeOf(example).NumField(); n > 0 && len(said) < 5 {
			t.Errorf("%T: only %d different ones were tried", example, len(said))
		}
	}
}

func TestATextCannotForgeALine(t *testing.T) {
	key := func(o op.File) store.Key { return Step{Step: definition.Step{Operation: &o}}.Key("") }
	honest := key(op.File{Path: "/a", Content: "x", Mode: "0600"})
	for _, content := range []string{"x\nmode 0600", "x\nmode \"0600\"", "x\"\nmode \"0600", `x"\nmode "0600`} {
		if key(op.File{Path: "/a", Content: content}) == honest {
			t.Errorf("the content %q has the key of a mode", content)
		}
	}
}

var (
	texts = []string{"", "a", "b", "a b", "a\nb", "a\" \"b", "\xff", "\ufffd", "true", "group \"a\"\nshell \"b\""}
	words = []string{"A", "B", "AB"}
)

// scribble sets the fields of an operation to a few awkward values.
func scribble(r *rand.Rand, v reflect.Value) {
	switch p := v.Addr().Interface().(type) {
	case *op.Secret:
		*p = op.Secret{Value: texts[r.IntN(len(texts))]}
		if r.IntN(2) == 0 { // the definition lets neither have a space
			p.Name, p.Version = words[r.IntN(len(words))], []string{"", "1", "2"}[r.IntN(3)]
		}
		return
	case **bool:
		if r.IntN(3) > 0 {
			*p = new(bool)
			**p = r.IntN(2) == 0
		}
		return
	case **int:
		*p = new(int)
		return
	case **string:
		if r.IntN(2) == 0 {
			*p = new(string)
			scribble(r, reflect.ValueOf(*p).Elem())
		}
		return
	case *map[string]string:
		*p = map[string]string{}
		for range r.IntN(3) {
			(*p)[texts[r.IntN(len(texts))]] = texts[r.IntN(len(texts))]
		}
		return
	case *map[string]op.Secret:
		*p = map[string]op.Secret{}
		for range r.IntN(3) {
			var s op.Secret
			scribble(r, reflect.ValueOf(&s).Elem())
			(*p)[words[r.IntN(len(words))]] = s
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			value := v.Field(i)
			if v.Type() == reflect.TypeFor[op.Sysprep]() {
				switch v.Type().Field(i).Name {
				case "Operations":
					value.Set(reflect.ValueOf(defaults()[:r.IntN(5)]))
				case "Scripts", "MachineID":
					scribble(r, value)
				}
				continue
			}
			scribble(r, value)
		}
	case reflect.Slice:
		for range r.IntN(4) {
			v.Set(reflect.Append(v, reflect.ValueOf(texts[r.IntN(len(texts))])))
		}
	case reflect.String:
		v.SetString(texts[r.IntN(len(texts))])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int:
		v.SetInt(r.Int64N(3))
	}
}

// canonical writes what an operation means: lists that are sets are sorted, what
// the key leaves out is left out here.
func canonical(o op.Operation) string {
	set := func(s []string) []string { return slices.Compact(slices.Sorted(slices.Values(s))) }
	secret := func(s op.Secret) string {
		if s.Name != "" {
			return fmt.Sprintf("named %q %q", s.Name, s.Version)
		}
		return fmt.Sprintf("literal %q", s.Value)
	}
	switch o := o.(type) {
	case *op.Packages:
		return fmt.Sprintf("%q %q %v %v %q", set(o.Install), set(o.Remove), o.Update, o.Missing, o.Elsewhere)
	case *op.Boot:
		return canonical(&op.Run{Script: o.Script, Environment: o.Environment})
	case *op.Run:
		text := fmt.Sprintf("%q", o.Script)
		for _, name := range slices.Sorted(maps.Keys(o.Environment)) {
			text += " " + name + " " + secret(o.Environment[name])
		}
		return text
	case *op.Copy:
		return fmt.Sprintf("%q %q %q %q", o.Destination, o.Owner, o.Group, o.Name)
	case *op.CloudInit:
		return fmt.Sprintf("%s %q %q", secret(o.UserData), o.MetaData, o.NetworkConfig)
	case *op.Ansible:
		said := *o
		said.Vault, said.Directory, said.Variables = op.Secret{}, "", nil
		said.Playbook, _ = o.InTree()
		said.Host, said.User = o.InventoryHost(), o.Account()
		text, _ := json.Marshal(said)
		line := fmt.Sprintf("%s %+q", text, []any{said.Playbook, said.Host, said.Groups, said.Tags, said.SkipTags, said.Arguments, said.User, said.Python})
		for _, name := range slices.Sorted(maps.Keys(o.Variables)) {
			line += " " + name + " " + secret(o.Variables[name])
		}
		return line
	case *op.Puppet:
		said := *o
		said.Timeout, said.Retries, said.Challenge, said.Sign, said.Clean, said.Modules, said.Payload = "", nil, op.Secret{}, nil, nil, "", ""
		text, _ := json.Marshal(said)
		return fmt.Sprintf("%s %+q", text, []any{said.Server, said.CAServer, said.Environment, said.Certname, said.Options, said.Tags, said.Facts, said.TrustedFacts,
			said.Manifest, said.ConfigVersion, said.Repository, said.RepositoryKey})
	case *op.TarIn:
		return fmt.Sprintf("%q", o.Destination)
	case *op.Password:
		return fmt.Sprintf("%q %s %q %v %v %q", o.User, secret(o.Password), o.Hash, o.Disabled, o.Locked, o.Crypto)
	case *op.Sysprep:
		var names []string
		for _, operation := range o.Selected() {
			names = append(names, operation.Name)
		}
		return fmt.Sprintf("%q %q %q", names, o.Scripts, o.MachineID)
	case *op.Service:
		enabled, _ := json.Marshal(o.Enabled)
		return fmt.Sprintf("%q %s %v", o.Name, enabled, o.Masked)
	}
	return fmt.Sprintf("%q", fmt.Sprintf("%#v", reflect.ValueOf(o).Elem().Interface()))
}

// Every input of a copy is in the key, and nothing else of the machine that it
// comes from.
func TestTheSameTreeElsewhereHasTheSameKey(t *testing.T) {
	key := func(root string, f func(*definition.Input)) store.Key {
		s := Step{Step: definition.Step{Operation: &op.Copy{Source: root, Destination: "/srv"}, Files: files()}}
		for i := range s.Files {
			s.Files[i].Path = root + "/" + s.Files[i].Name
		}
		f(&s.Files[1])
		return s.Key("")
	}
	base := key("/home/me", func(*definition.Input) {})
	if key("/srv/checkout", func(*definition.Input) {}) != base {
		t.Error("another checkout has another key")
	}
	if key("/home/me", func(i *definition.Input) { i.Digest = digest.Of([]byte("another")) }) == base {
		t.Error("another content has the same key")
	}
}
