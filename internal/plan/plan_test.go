package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/pin"
	"herdbook/internal/store"
	"herdbook/internal/target"
)

const (
	mirror = "http://mirror.example.org/debian"
	suite  = "bookworm"
)

func of(text string) digest.Digest { return digest.Of([]byte(text)) }

func lockOf(release string) pin.Lock {
	return pin.Lock{}.With(pin.Pin{Name: pin.AptName(mirror, suite), URL: mirror + "/dists/bookworm/InRelease", Checksum: of(release).Checksum()})
}

// operations is one of every kind that a definition can have, all fields set.
func operations() []op.Operation {
	yes := true
	return []op.Operation{
		&op.Packages{Install: []string{"nginx", "curl"}, Remove: []string{"nano", "ed"}, Update: true},
		&op.Run{Script: "#!/bin/sh\ntrue\n", Environment: map[string]op.Secret{"A": {Value: "1"}, "TOKEN": {Value: "hunter2", Name: "TOKEN", Version: "3"}}},
		&op.File{Path: "/etc/motd", Content: "moo", Mode: "0644", Owner: "root", Group: "adm", Keep: true},
		&op.Copy{Source: "files", Destination: "/srv", Owner: "www-data", Group: "www-data", Name: "n"},
		&op.Delete{Paths: []string{"/tmp/a", "/tmp/b*"}},
		&op.User{Name: "deploy", UID: 1001, Group: "users", Groups: []string{"sudo", "adm"}, Shell: "/bin/zsh", Home: "/srv/deploy", System: true},
		&op.Password{User: "root", Password: op.Secret{Value: "hunter2", Name: "ROOT", Version: "1"}, Hash: "$6$x", Disabled: true, Locked: true, Crypto: "sha512"},
		&op.SSHKey{User: "deploy", Keys: []string{"ssh-ed25519 AAAA a", "ssh-ed25519 BBBB b"}},
		&op.Hostname{Name: "cow"},
		&op.Timezone{Zone: "Europe/Berlin"},
		&op.Service{Name: "ssh.service", Enabled: &yes, Masked: true},
		&op.AppendLine{Path: "/etc/hosts", Line: "10.0.0.1 cow"},
		&op.Chmod{Paths: []string{"/etc/motd", "/etc/issue"}, Mode: "0600"},
		&op.Chown{Paths: []string{"/srv", "/opt"}, Owner: "deploy", Group: "users"},
		&op.Duplicate{Source: "/etc/motd", Destination: "/etc/motd.old"},
		&op.Move{Source: "/etc/motd.old", Destination: "/srv"},
		&op.Link{Target: "/srv", Paths: []string{"/www", "/site"}},
		&op.Mkdir{Paths: []string{"/srv/a", "/srv/b"}, Mode: "0750"},
		&op.Touch{Paths: []string{"/srv/a/x", "/srv/b/y"}},
		&op.Truncate{Paths: []string{"/var/log/a", "/var/log/b"}, Recursive: true},
		&op.Scrub{Paths: []string{"/root/a", "/root/b"}},
		&op.TarIn{Source: "site.tar", Destination: "/srv"},
		&op.Edit{Path: "/etc/motd", Expression: "s/cow/moo/"},
		&op.Firstboot{Name: "register", Script: "true", Command: "false", Install: []string{"curl", "jq"}, Retries: 3, Optional: true},
		&op.Boot{Script: "#!/bin/sh\ntrue\n", Environment: map[string]op.Secret{"A": {Value: "1"}, "TOKEN": {Value: "hunter2", Name: "TOKEN", Version: "3"}}},
		fullPuppet(),
		fullAnsible(),
		&op.CloudInit{UserData: op.Secret{Value: "#cloud-config", Name: "SEED", Version: "2"}, MetaData: "instance-id: i", NetworkConfig: "version: 2", AllowWarnings: true},
		&op.Relabel{Exclude: []string{"/srv", "/opt"}, AtBoot: true},
		&op.Sysprep{
			Operations: []string{"machine-id", "tmp-files", "user-account", "script"}, RemoveUserAccounts: []string{"eve", "mallory"},
			KeepUserAccounts: []string{"alice", "bob"}, Scripts: []string{"true\n", "false\n"}, MachineID: op.UninitializedMachineID,
		},
	}
}

func fullAnsible() *op.Ansible {
	yes := true
	return &op.Ansible{
		Playbook: "site/plays/web.yml", Directory: "site", Host: "calf", Groups: []string{"web", "edge"},
		Variables: map[string]op.Secret{"colour": {Value: "red"}, "token": {Value: "hunter2", Name: "TOKEN", Version: "3"}},
		Vault:     op.Secret{Value: "hunter3", Name: "VAULT", Version: "1"}, Tags: []string{"a", "b"}, SkipTags: []string{"c", "d"},
		Arguments: []string{"--diff", "-v"}, User: "deploy", Become: true, Python: "/usr/bin/python3", Idempotent: &yes,
	}
}

// fullPuppet has more than one can have.
func fullPuppet() *op.Puppet {
	yes, no, retries, install := true, false, 5, "puppet"
	return &op.Puppet{
		Server: "puppet.example.org", Port: 8141, CAServer: "ca.example.org", Environment: "staging", Certname: "build.example.org", Timeout: "2m",
		Options: map[string]string{"strict_variables": "true"}, Tags: []string{"web", "base"}, Facts: map[string]string{"rack": "r1", "row": "2"},
		TrustedFacts: map[string]string{"pp_role": "web"}, Challenge: op.Secret{Value: "hunter2", Name: "CHALLENGE", Version: "1"},
		Manifest: "include web\n", Modules: "modules", ConfigVersion: "v1", Retries: &retries, Idempotent: &yes,
		Install: &install, Repository: "deb https://apt.example.org bookworm puppet8", RepositoryKey: "-----BEGIN", KeepAgent: &no,
		Sign: []string{"ssh", "ca"}, Clean: []string{"ssh", "ca", "clean"},
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
		if o.Kind() == "packages" {
			step.Network = &definition.Network{}
		}
		if _, reads := op.HostSource(o); reads {
			step.Files = files()
		}
		base.Steps = append(base.Steps, step)
	}
	base.Tests = []definition.Test{{Kind: "boots", Firmware: "bios"}, {Kind: "clones", Firmware: "bios", Allow: []string{"hostname"}}}
	child := definition.Image{Name: "child", From: "base", Steps: []definition.Step{
		{Kind: "hostname", Name: "name", Operation: &op.Hostname{Name: "calf"}},
		{Kind: "packages", Name: "more", Operation: &op.Packages{Install: []string{"htop"}}, Network: network()},
	}}
	other := definition.Image{Name: "other", Bootstrap: boot(), Disk: definition.Disk{Size: 2 << 30}, Steps: []definition.Step{
		{Kind: "hostname", Name: "name", Operation: &op.Hostname{Name: "bull"}},
	}}
	return &definition.Definition{Dir: "/home/me", Images: []definition.Image{base, child, other}}
}

// network is one that says everything.
func network() *definition.Network {
	return &definition.Network{
		Hosts:     map[string]string{"puppet.example.org": "10.0.2.2", "mirror.example.org": "192.0.2.7"},
		HostPorts: []uint16{8140, 80}, DNS: []string{"10.0.0.53:53", "10.0.0.54:53"},
		Proxy:   op.Secret{Value: "http://proxy.example.org:3128", Name: "PROXY", Version: "1"},
		Forward: []definition.Forward{{Host: 2222, Guest: 22}, {Host: 8080, Guest: 80}},
	}
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
			slices.Reverse(base.Steps[len(base.Steps)-1].Operation.(*op.Sysprep).Operations)
		},
		"tests, publishing, targets and refresh": func(base *definition.Image) {
			base.Tests, base.Publish = nil, []definition.Publish{{Repository: "r", Name: "n"}}
			base.Targets = []definition.Target{{Target: &target.Docker{Tags: []string{"base:latest"}}, Image: "base"}}
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

func TestSysprepWithoutAListIsSysprepWithItsDefaults(t *testing.T) {
	key := func(operations []string) store.Key {
		return Step{Step: definition.Step{Operation: &op.Sysprep{Operations: operations}}}.Key("")
	}
	if key(nil) != key(defaults()) || key(nil) != key([]string{"all,-all", "defaults"}) {
		t.Error("they have different keys")
	}
}

func TestTestKeyHoldsTheTest(t *testing.T) {
	test := definition.Test{Kind: "boots", Firmware: "bios", Timeout: time.Minute, Position: "x:1", Commands: []op.CommandCheck{{Name: "n", Run: "r", Expect: "e"}}}
	key := TestKey(of("layer"), test)
	for name, change := range map[string]func(*definition.Test){
		"firmware": func(t *definition.Test) { t.Firmware = "uefi" },
		"command":  func(t *definition.Test) { t.Commands = []op.CommandCheck{{Name: "n", Run: "other", Expect: "e"}} },
		"expect":   func(t *definition.Test) { t.Commands = []op.CommandCheck{{Name: "n", Run: "r", Expect: "f"}} },
		"status": func(t *definition.Test) {
			t.Commands = []op.CommandCheck{{Name: "n", Run: "r", Expect: "e", ExitStatus: 1}}
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

// meadow is a target that needs something on the image.
type meadow struct{ Grass string }

func (*meadow) Kind() string        { return "meadow" }
func (*meadow) Version() int        { return 1 }
func (*meadow) Variant() string     { return "green" }
func (*meadow) Check() []op.Problem { return nil }
func (m *meadow) Adjustments() []target.Adjustment {
	return []target.Adjustment{{Name: "grass", Operation: &op.File{Path: "/grass", Content: m.Grass}}}
}

func TestWhatATargetNeedsIsAnImageOnTopOfTheOther(t *testing.T) {
	d := herd()
	docker := definition.Target{Target: &target.Docker{Tags: []string{"base:latest"}}, Image: "base"}
	green := definition.Target{
		Target: &meadow{"high"}, Image: "base", Position: "x:9",
		Steps: []definition.Step{{Kind: "file", Name: "grass", Operation: &op.File{Path: "/grass", Content: "high"}, Network: &definition.Network{}}},
	}
	d.Images[0].Targets = []definition.Target{docker, green}
	p, err := New(d, lockOf("release"))
	peer.Must(t, err)
	names := func(p *Plan) (list []string) {
		for _, image := range p.Images {
			list = append(list, image.Name)
			for _, t := range image.Targets {
				list = append(list, "→"+t.Name())
			}
		}
		return list
	}
	if diff := cmp.Diff([]string{"base", "→docker", "base/meadow-green", "→meadow-green", "child", "other"}, names(p)); diff != "" {
		t.Error(diff)
	}
	made, _ := p.Image("base/meadow-green")
	if made.From != "base" || made.Place == nil || len(made.Steps) != 1 || !made.Steps[0].Trim || len(made.Steps[0].Pins) != 1 || made.Steps[0].Image != made.Name {
		t.Errorf("%+v", made)
	}
	part, err := p.With("base")
	peer.Must(t, err)
	for want, wanted := range map[string]func(definition.Target) bool{
		"base →docker base/meadow-green →meadow-green": func(definition.Target) bool { return true },
		"base →docker":                         func(t definition.Target) bool { return t.Kind() == "docker" },
		"base base/meadow-green →meadow-green": func(t definition.Target) bool { return t.Name() == "meadow-green" },
		"base":                                 func(definition.Target) bool { return false },
	} {
		if got := strings.Join(names(part.Delivering(wanted)), " "); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	// One alone, and beside its image.
	d.Images[0].Targets = append(d.Images[0].Targets, definition.Target{Target: &target.Incus{Type: "blue"}, Image: "base", Steps: green.Steps})
	two, err := New(d, lockOf("release"))
	peer.Must(t, err)
	for want, with := range map[string][]string{
		"base →docker base/meadow-green →meadow-green":                             {"base/meadow-green"},
		"base →docker base/meadow-green →meadow-green base/incus-blue →incus-blue": {"base/meadow-green", "base"},
	} {
		part, err := two.With(with...)
		if got := strings.Join(names(part), " "); err != nil || got != want {
			t.Errorf("%q: %s, %v, want %s", with, got, err, want)
		}
	}
	if whole := names(p); len(whole) != 6 {
		t.Errorf("the plan itself was changed: %v", whole)
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
		{text("a", "old", "z"), []Line{line("a"), line("new"), line("z")}, " a -old +new  z"},
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

// The lock tells where kernel and initrd of a tree lie, but the definition may hold
// a checksum against it.
func TestAnInstallationIsThatOfTheLock(t *testing.T) {
	const tree = "http://mirror.invalid/tree"
	kernel, initrd := medium("linux"), medium("initrd.gz")
	lock := pin.Lock{}
	for part, m := range map[pin.Part]definition.Medium{pin.Kernel: kernel, pin.Initrd: initrd} {
		lock = lock.With(pin.Pin{Name: pin.InstallerName(tree, part), URL: m.URL, Checksum: m.Checksum})
	}
	sum := func(c digest.Checksum) definition.Medium { return definition.Medium{Checksum: c} }
	long := digest.Checksum("sha512:" + strings.Repeat("0", 128))
	for name, c := range map[string]struct {
		kernel, initrd definition.Medium
		lock           pin.Lock
		want           string // "" is success
	}{
		"no checksums":         {sum(""), sum(""), lock, ""},
		"the same":             {sum(kernel.Checksum), sum(initrd.Checksum), lock, ""},
		"of another algorithm": {sum(long), sum(""), lock, ""},
		"another":              {sum(kernel.Checksum), sum(kernel.Checksum), lock, "and the definition gives " + string(kernel.Checksum) + "; run herdbook build --refresh"},
		"not pinned":           {sum(kernel.Checksum), sum(""), pin.Lock{}, "installer http://mirror.invalid/tree kernel is not pinned; run herdbook build --refresh"},
		"half pinned":          {sum(""), sum(""), lock.Without([]string{pin.InstallerName(tree, pin.Initrd)}), "tree initrd is not pinned"},
	} {
		i := definition.Install{Kind: "preseed", Location: definition.Medium{URL: tree}, Kernel: c.kernel, Initrd: c.initrd}
		p, err := New(&definition.Definition{Images: []definition.Image{{Name: "x", Install: &i}}}, c.lock)
		switch {
		case c.want != "":
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		default:
			if got := p.Images[0].Steps[0].Install; got.Kernel != kernel || got.Initrd != initrd {
				t.Errorf("%s: %+v, %+v", name, got.Kernel, got.Initrd)
			}
		}
	}
}
