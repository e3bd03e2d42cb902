package customize

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== me@here"

// host has a few files, a key and a password that is not random at all.
func host() Host {
	files := map[string]string{
		"setup.sh": "#!/bin/sh\ntrue\n", "dir/first boot!.sh": "echo first\n", "pw": "hunter2\r\nsecond line\n", "empty": "", "keys": "# mine\n" + key + "\n\n" + key + "2\n",
		"commands": "# a comment\n\ndelete /some/file\n  install curl,jq\nupdate\nedit /some/file:\\\n  s/^OPT=.*/OPT=ok/\nwrite /x:a\\\nb\npassword root:file:pw\n",
		"nested":   "commands-from-file commands\n", "bad": "touch /a\n\nfrobnicate yes\n",
	}
	return Host{
		ReadFile: func(name string) ([]byte, error) {
			if text, ok := files[name]; ok {
				return []byte(text), nil
			}
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		},
		PublicKey: func() (string, error) { return key + "\n", nil },
		Password:  func() (string, error) { return "made-up", nil },
	}
}

func secret(user, value string) op.Secret {
	return op.Secret{Value: value, Name: "password of " + user}
}

func TestOptionsBecomeOperations(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        op.Operation
	}{
		{"append-line", "/etc/hosts:10.0.0.1 a:b", &op.AppendLine{Path: "/etc/hosts", Line: "10.0.0.1 a:b"}},
		{"append-line", "/etc/hosts:", &op.AppendLine{Path: "/etc/hosts"}},
		{"chmod", "644:/etc/motd", &op.Chmod{Mode: "644", Paths: []string{"/etc/motd"}}},
		{"chown", "0:adm:/etc/a:b", &op.Chown{Owner: "0", Group: "adm", Paths: []string{"/etc/a:b"}}},
		{"copy", "/a:/b", &op.Duplicate{Source: "/a", Destination: "/b"}},
		{"copy-in", "site/www/:/srv", &op.Copy{Source: "site/www/", Destination: "/srv/www", Payload: "0"}},
		{"delete", "/var/log/*.log", &op.Delete{Paths: []string{"/var/log/*.log"}}},
		{"edit", "/etc/a:s/b:c/d/", &op.Edit{Path: "/etc/a", Expression: "s/b:c/d/"}},
		{"firstboot", "dir/first boot!.sh", &op.Firstboot{Name: "first-boot-.sh", Script: "echo first\n"}},
		{"firstboot-command", "/usr/bin/register --now", &op.Firstboot{Name: "usr-bin-register---now", Command: "/usr/bin/register --now"}},
		{"firstboot-install", "curl,jq", &op.Firstboot{Name: "install-curl-jq", Install: []string{"curl", "jq"}}},
		{"hostname", "web", &op.Hostname{Name: "web"}},
		{"install", "curl,jq", &op.Packages{Install: []string{"curl", "jq"}}},
		{"link", "../a:/b:/c", &op.Link{Target: "../a", Paths: []string{"/b", "/c"}}},
		{"mkdir", "/a/b", &op.Mkdir{Paths: []string{"/a/b"}}},
		{"move", "/a:/b", &op.Move{Source: "/a", Destination: "/b"}},
		{"password", "deploy:password:a:b", &op.Password{User: "deploy", Password: secret("deploy", "a:b")}},
		{"password", "deploy:file:pw", &op.Password{User: "deploy", Password: secret("deploy", "hunter2")}},
		{"password", "deploy:random", &op.Password{User: "deploy", Password: secret("deploy", "made-up")}},
		{"password", "deploy:disabled", &op.Password{User: "deploy", Disabled: true}},
		{"password", "deploy:locked", &op.Password{User: "deploy", Disabled: true, Locked: true}},
		{"password", "deploy:locked:disabled", &op.Password{User: "deploy", Disabled: true, Locked: true}},
		{"password", "deploy:locked:file:pw", &op.Password{User: "deploy", Password: secret("deploy", "hunter2"), Locked: true}},
		{"root-password", "file:pw", &op.Password{User: "root", Password: secret("root", "hunter2")}},
		{"run", "setup.sh", &op.Run{Script: "#!/bin/sh\ntrue\n"}},
		{"run-command", "a && b", &op.Run{Script: "a && b"}},
		{"scrub", "/root/x", &op.Scrub{Paths: []string{"/root/x"}}},
		{"ssh-inject", "deploy", &op.SSHKey{User: "deploy", Keys: []string{key}}},
		{"ssh-inject", "deploy:file:keys", &op.SSHKey{User: "deploy", Keys: []string{key, key + "2"}}},
		{"ssh-inject", "deploy:string:" + key, &op.SSHKey{User: "deploy", Keys: []string{key}}},
		{"tar-in", "a.tar:/", &op.TarIn{Source: "a.tar", Destination: "/", Payload: "0"}},
		{"timezone", "Europe/Berlin", &op.Timezone{Zone: "Europe/Berlin"}},
		{"touch", "/a", &op.Touch{Paths: []string{"/a"}}},
		{"truncate", "/a", &op.Truncate{Paths: []string{"/a"}}},
		{"truncate-recursive", "/a", &op.Truncate{Paths: []string{"/a"}, Recursive: true}},
		{"uninstall", "nano", &op.Packages{Remove: []string{"nano"}}},
		{"update", "", &op.Packages{Update: true}},
		{"upload", "dir/a:/srv", &op.Copy{Source: "dir/a", Destination: "/srv", Name: "a", Payload: "0"}},
		{"upload", "dir/a:/srv/", &op.Copy{Source: "dir/a", Destination: "/srv/a", Name: "a", Payload: "0"}},
		{"write", "/a:b:c\n", &op.File{Path: "/a", Content: "b:c\n", Keep: true}},
	} {
		o := &Options{Host: host()}
		if err := o.Add(c.name, c.value); err != nil {
			t.Errorf("--%s %q: %v", c.name, c.value, err)
			continue
		}
		r := o.Result()
		if diff := cmp.Diff([]op.Operation{c.want, &op.Relabel{}}, r.Operations); diff != "" {
			t.Errorf("--%s %q: %s", c.name, c.value, diff)
		}
		if source, reads := op.HostSource(c.want); reads != (len(r.Uploads) == 1) || reads && r.Uploads[0] != (Upload{source, "0"}) {
			t.Errorf("--%s %q: uploads %v", c.name, c.value, r.Uploads)
		}
		option, _ := Lookup(c.name)
		if option.Kind != c.want.Kind() {
			t.Errorf("--%s is said to be of kind %q, and is of %s", c.name, option.Kind, c.want.Kind())
		}
	}
}

func TestOptionsRefuseWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"frobnicate", "x", "there is no option --frobnicate"},
		{"inject-virtio-win", "x.iso", "for Windows guests"},
		{"sm-register", "", "--run-command 'subscription-manager"},
		{"update", "yes", "takes no argument"},
		{"touch", "", "--touch needs an argument: FILE"},
		{"touch", "a", `--touch: "a" is not an absolute path`},
		{"chmod", "u+x:/a", "not an octal file mode"},
		{"chmod", "/a", "has no colon"},
		{"chown", "0:/a", "OWNER:GROUP:PATH"},
		{"link", "/a", "TARGET:LINK"},
		{"copy-in", "..:/srv", "no name that it could have"},
		{"copy-in", ":/srv", "is not of the form"},
		{"upload", "a:srv", "is not an absolute path"},
		{"tar-in", "a.tar", "is not of the form"},
		{"run", "missing", "open missing: file does not exist"},
		{"firstboot", "missing", "file does not exist"},
		{"run", "empty", "the script is empty"},
		{"install", "a,,b", `"" is not a package name`},
		{"password", "root", "USER:SELECTOR"},
		{"password", "root:plain", "no such selector"},
		{"password", "root:disabled:x", "no such selector"},
		{"password", "root:locked:", ""},
		{"password", "root:lockedx", "no such selector"},
		{"password", "root:file:empty", "the password is empty"},
		{"password", "root:password:", "the password is empty"},
		{"password", "root:file:missing", "file does not exist"},
		{"password-crypto", "rot13", "yescrypt"},
		{"ssh-inject", "root:what", "there is no selector"},
		{"ssh-inject", "root:string:-----BEGIN", "private key must never"},
		{"delete", "/", "the guest's root"},
		{"selinux-relabel-exclude", "srv", "is not an absolute path"},
		{commandsFromFile, "missing", "file does not exist"},
		{commandsFromFile, "nested", "nested:1: --commands-from-file: it cannot stand in a file of commands itself"},
		{commandsFromFile, "bad", "bad:3: there is no option --frobnicate"},
	} {
		err := (&Options{Host: host()}).Add(c.name, c.value)
		if c.want == "" && err == nil {
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("--%s %q: error %v, want one with %q", c.name, c.value, err, c.want)
		}
	}
}

// A message about a password does not tell it.
func TestErrorsHoldNoPassword(t *testing.T) {
	for _, value := range []string{"root-hunter2", "root:hunter2", "root:pasword:hunter2", "ro ot:password:hunter2"} {
		if err := (&Options{Host: host()}).Add("password", value); err == nil || strings.Contains(err.Error(), ":hunter2") || strings.Contains(err.Error(), "root-hunter2") {
			t.Errorf("%q: %v", value, err)
		}
	}
	o := &Options{Host: host()}
	peer.Must(t, o.Add("root-password", "password:hunter2"))
	if got := op.Secrets(o.Result().Operations...); !slices.Equal(got, []string{"hunter2"}) {
		t.Errorf("blotted out: %q", got)
	}
}

func kinds(r Result) string {
	var names []string
	for _, o := range r.Operations {
		names = append(names, o.Kind())
	}
	return strings.Join(names, " ")
}

// Flags of a command line add to one list, in the order of the line.
func TestFlags(t *testing.T) {
	o := &Options{Host: host()}
	flags := flag.NewFlagSet("customize", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	for _, option := range Flags() {
		flags.Var(o.Flag(option), option.Name, option.Help)
	}
	peer.Must(t, flags.Parse([]string{"--touch=/a", "--update", "--commands-from-file", "commands", "--no-logfile", "--mkdir", "/b"}))
	if want := "touch packages delete packages packages edit file mkdir password relabel"; kinds(o.Result()) != want {
		t.Errorf("%s, want %s", kinds(o.Result()), want)
	}
	if err := flags.Parse([]string{"--password", "root:disabled"}); err == nil || !strings.Contains(err.Error(), "the password of root is set twice") {
		t.Errorf("error %v", err)
	}
}

// The order is the one that was given; passwords and labels come at the end.
func TestOrderOfOperations(t *testing.T) {
	o := &Options{Host: host()}
	for _, c := range [][2]string{
		{"password-crypto", "sha512"}, {"password", "deploy:random"}, {"touch", "/a"}, {commandsFromFile, "commands"}, {"password", "ghost:disabled"},
		{"upload", "x:/srv"}, {"selinux-relabel-at-boot", ""}, {"selinux-relabel-exclude", "/srv"}, {"tar-in", "y.tar:/"}, {"no-logfile", "true"}, {"selinux-relabel", ""},
	} {
		if err := o.Add(c[0], c[1]); err != nil {
			t.Fatal(err)
		}
	}
	r := o.Result()
	if want := "touch delete packages packages edit file copy tar_in password password password relabel"; kinds(r) != want {
		t.Errorf("%s, want %s", kinds(r), want)
	}
	last := r.Operations[len(r.Operations)-4:]
	want := []op.Operation{
		&op.Password{User: "deploy", Password: secret("deploy", "made-up"), Crypto: "sha512"},
		&op.Password{User: "root", Password: secret("root", "hunter2"), Crypto: "sha512"},
		&op.Password{User: "ghost", Disabled: true}, &op.Relabel{Exclude: []string{"/srv"}, AtBoot: true},
	}
	if diff := cmp.Diff(want, last); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Upload{{"x", "0"}, {"y.tar", "1"}}, r.Uploads); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Generated{{"deploy", "made-up"}}, r.Generated); diff != "" {
		t.Error(diff)
	}
	peer.Must(t, o.Add("no-selinux-relabel", ""))
	if strings.Contains(kinds(o.Result()), "relabel") {
		t.Error("it is relabelled nevertheless")
	}
	if r := (&Options{}).Result(); len(r.Operations) != 0 {
		t.Errorf("nothing was asked, and there is %s", kinds(r))
	}
}

func TestFileOfCommands(t *testing.T) {
	got := parseCommands("# no\\\nmore of the comment\n\n \t\n  touch  /a b\r\nupdate\nwrite /x:1\\\n2\\\n3\nlast\\")
	want := []command{{5, "touch", " /a b"}, {6, "update", ""}, {7, "write", "/x:1\n2\n3"}, {10, "last", ""}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func FuzzFileOfCommands(f *testing.F) {
	for _, name := range []string{"commands", "nested", "bad", "setup.sh"} {
		text, err := host().ReadFile(name)
		peer.Must(f, err)
		f.Add(string(text))
	}
	f.Add("write /x:a\\\n\\\n\\")
	f.Add("password root:password:x\npassword root:disabled\nlink a:/b:/c\nchown a:b:/c\nssh-inject root\n")
	f.Fuzz(func(t *testing.T, text string) {
		h := host()
		real := h.ReadFile
		h.ReadFile = func(name string) ([]byte, error) {
			if name == "fuzz" {
				return []byte(text), nil
			}
			return real(name)
		}
		o := &Options{Host: h}
		err := o.Add(commandsFromFile, "fuzz")
		if err != nil && !strings.HasPrefix(err.Error(), "--commands-from-file: fuzz:") {
			t.Errorf("the error does not say where: %v", err)
		}
		for _, operation := range o.Result().Operations {
			if problems := operation.Check(); len(problems) > 0 {
				t.Errorf("%s: %v", operation.Kind(), problems)
			}
		}
	})
}

// machinery are the options of virt-customize that say which machine and how, not
// what is to be done to it.
var machinery = map[string]string{
	"add": "the disk is the command's argument", "attach": "no further disks are attached", "attach-format": "no further disks are attached",
	"connect": "disks are files, not libvirt's", "domain": "disks are files, not libvirt's", "format": "an option of the command",
	"color": "of the terminal", "colors": "of the terminal", "colour": "of the terminal", "colours": "of the terminal", "wrap": "of the terminal", "quiet": "of the terminal",
	"verbose": "of the terminal", "dryrun": "an option of the command", "dry-run": "an option of the command", "echo-keys": "of encrypted disks", "key": "of encrypted disks",
	"keys-from-stdin": "of encrypted disks", "help": "of every command", "version": "of every command", "memsize": "an option of the command",
	"smp": "an option of the command", "network": "an option of the command", "no-network": "an option of the command",
}

// Every option of the real virt-customize is in the table, or is not about the guest.
func TestTheTableIsThatOfVirtCustomize(t *testing.T) {
	peer.NeedTool(t, "virt-customize")
	help := peer.Run(t, "virt-customize", "--help")
	found := 0
	for _, m := range regexp.MustCompile(`--([a-z][a-z-]+)(?: <([^>]+)>)?`).FindAllStringSubmatch(help[strings.Index(help, "Options:"):], -1) {
		option, ours := Lookup(m[1])
		if _, other := machinery[m[1]]; ours == other {
			t.Errorf("--%s is in the table: %v, and not about the guest: %v", m[1], ours, other)
		}
		if ours {
			found++
			if (option.Argument == "") != (m[2] == "") {
				t.Errorf("--%s has the argument %q, ours %q", m[1], m[2], option.Argument)
			}
		}
	}
	if found < 35 {
		t.Errorf("only %d options were found in\n%s", found, help)
	}
}

func TestTheTableIsSound(t *testing.T) {
	seen := map[string]bool{}
	for _, option := range Table() {
		if seen[option.Name] {
			t.Errorf("--%s is there twice", option.Name)
		}
		seen[option.Name] = true
		if (option.Refused == "") != (option.Help != "") {
			t.Errorf("--%s: help %q, refused %q", option.Name, option.Help, option.Refused)
		}
		if option.Kind != "" && !slices.Contains(op.StepKinds(), option.Kind) {
			t.Errorf("--%s is of kind %q, which is none", option.Name, option.Kind)
		}
		if option.add == nil && option.Refused == "" && option.Name != commandsFromFile {
			t.Errorf("--%s does nothing", option.Name)
		}
	}
	if len(Flags()) >= len(Table()) || fmt.Sprint(Flags()) == "" {
		t.Error("what is refused is among the flags")
	}
}

// Without a way to the host nothing of it is read, and nothing panics.
func TestWithoutAHost(t *testing.T) {
	for _, c := range [][2]string{{"run", "x"}, {"root-password", "random"}, {"root-password", "file:x"}, {"ssh-inject", "root"}, {commandsFromFile, "x"}} {
		if err := (&Options{}).Add(c[0], c[1]); err == nil {
			t.Errorf("--%s %s was taken", c[0], c[1])
		}
	}
	broken := errors.New("no entropy")
	o := &Options{Host: Host{Password: func() (string, error) { return "", broken }}}
	if err := o.Add("root-password", "random"); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}
