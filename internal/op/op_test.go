package op

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func yes() *bool { b := true; return &b }

func number(n int) *int { return &n }

func text(s string) *string { return &s }

func TestEnvelopeCarriesEveryKind(t *testing.T) {
	full := map[string]Operation{
		"packages": &Packages{Install: []string{"curl"}, Remove: []string{"nano"}, Update: true, Missing: true, Elsewhere: map[string]string{"dnf": "curl wget"}},
		"run":      &Run{Script: "true", Environment: map[string]Secret{"A": {Value: "v", Name: "N", Version: "1"}}},
		"file":     &File{Path: "/etc/motd", Content: "x", Mode: "0600", Owner: "root", Group: "adm", Keep: true},
		"copy":     &Copy{Source: "s", Destination: "/d", Owner: "o", Group: "g", Name: "n", Payload: "0"},
		"delete":   &Delete{Paths: []string{"/tmp/*"}},
		"user":     &User{Name: "deploy", UID: 1, Group: "g", Groups: []string{"sudo"}, Shell: "/bin/sh", Home: "/h", System: true},
		"password": &Password{User: "root", Password: Secret{Value: "v", Name: "N"}, Hash: "$y$", Disabled: true, Locked: true, Crypto: "sha512"},
		"ssh_key":  &SSHKey{User: "root", Keys: []string{"k"}},
		"hostname": &Hostname{Name: "h"}, "timezone": &Timezone{Zone: "UTC"},
		"service": &Service{Name: "ssh", Enabled: yes(), Masked: true},
		"sysprep": &Sysprep{
			Operations: []string{"defaults"}, Enable: []string{"user-account"}, RemoveUserAccounts: []string{"eve"}, KeepUserAccounts: []string{"bob"},
			Scripts: []string{"true"}, MachineID: UninitializedMachineID,
		},
		"append_line": &AppendLine{Path: "/etc/hosts", Line: "x"},
		"chmod":       &Chmod{Paths: []string{"/a"}, Mode: "0600"}, "chown": &Chown{Paths: []string{"/a"}, Owner: "o", Group: "g"},
		"duplicate": &Duplicate{Source: "/a", Destination: "/b"}, "move": &Move{Source: "/a", Destination: "/b"},
		"link": &Link{Target: "t", Paths: []string{"/l"}}, "mkdir": &Mkdir{Paths: []string{"/d"}, Mode: "0700"},
		"touch": &Touch{Paths: []string{"/a"}}, "truncate": &Truncate{Paths: []string{"/a"}, Recursive: true},
		"scrub": &Scrub{Paths: []string{"/a"}}, "tar_in": &TarIn{Source: "s", Destination: "/d", Payload: "0"},
		"edit":      &Edit{Path: "/a", Expression: "s/a/b/"},
		"boot":      &Boot{Script: "true", Environment: map[string]Secret{"A": {Value: "1"}}},
		"relabel":   &Relabel{Exclude: []string{"/srv"}, AtBoot: true},
		"firstboot": &Firstboot{Name: "n", Script: "true", Command: "true", Install: []string{"curl"}, Retries: 1, Optional: true},
		"puppet": &Puppet{
			Server: "p", Port: 1, CAServer: "c", Environment: "e", Certname: "c", Timeout: "1m", Options: map[string]string{"a": "b"}, Tags: []string{"t"},
			Facts: map[string]string{"a": "b"}, TrustedFacts: map[string]string{"pp_role": "b"}, Challenge: Secret{Value: "v", Name: "N"},
			Manifest: "m", Modules: "m", ConfigVersion: "v", Retries: number(0), Idempotent: yes(), Install: text(""), Repository: "r", RepositoryKey: "k",
			KeepAgent: yes(), Sign: []string{"s"}, Clean: []string{"c"}, Payload: "0",
		},
		"cloud-init": &CloudInit{UserData: Secret{Value: "v", Name: "N"}, MetaData: "m", NetworkConfig: "n", AllowWarnings: true},
		"ansible": &Ansible{
			Playbook: "site/site.yml", Directory: "site", Host: "h", Groups: []string{"web"}, Variables: map[string]Secret{"a": {Value: "1"}}, Vault: Secret{Value: "v"},
			Tags: []string{"a"}, SkipTags: []string{"b"}, Arguments: []string{"-v"}, User: "deploy", Become: true, Python: "/usr/bin/python3", Idempotent: yes(),
		},
		"bootloader": &Bootloader{}, "agent": &Agent{Mask: []string{"a.service"}},
	}
	for _, k := range kinds {
		want, ok := full[k.make().Kind()]
		if !ok {
			t.Errorf("no example of kind %s", k.make().Kind())
			continue
		}
		for i := range reflect.ValueOf(want).Elem().NumField() {
			if reflect.ValueOf(want).Elem().Field(i).IsZero() {
				t.Errorf("the example of %s leaves field %d empty", want.Kind(), i)
			}
		}
		text, err := json.Marshal(Envelope{want})
		if err != nil {
			t.Fatal(err)
		}
		var got Envelope
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if p, ok := want.(*Puppet); ok { // commands of the host stay there
			p.Sign, p.Clean = nil, nil
		}
		if diff := cmp.Diff(want, got.Operation); diff != "" {
			t.Errorf("%s: %s", want.Kind(), diff)
		}
	}
}

func TestEnvelopeRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, text := range []string{`{"kind":"explode"}`, `{"kind":"run","arguments":{"script":1}}`, `[]`} {
		if err := json.Unmarshal([]byte(text), &Envelope{}); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
}

func TestSecretsStayHidden(t *testing.T) {
	run := Run{Script: "true", Environment: map[string]Secret{"TOKEN": {Value: "hunter2", Name: "TOKEN"}}}
	for _, text := range []string{fmt.Sprint(run), fmt.Sprintf("%v", run), fmt.Sprintf("%+v", run), fmt.Sprintf("%#v", run.Environment), run.Environment["TOKEN"].String()} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("the value shows in %s", text)
		}
	}
	if got := Secrets(&Puppet{Challenge: run.Environment["TOKEN"]}); len(got) != 1 || got[0] != "hunter2" {
		t.Errorf("Secrets = %q", got)
	}
	if got := Secrets(&run, &Password{Password: Secret{Value: "literal"}}); len(got) != 1 || got[0] != "hunter2" {
		t.Errorf("Secrets = %q", got)
	}
}

func TestCheck(t *testing.T) {
	key := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== me@here"
	for _, c := range []struct {
		o     Operation
		field string // of the only problem; "-" for none
	}{
		{&Packages{}, ""},
		{&Packages{Install: []string{"curl", "g++", "libc6:i386", "nginx=1.22*"}}, "-"},
		{&Packages{Install: []string{"--allow-unauthenticated"}}, "install"},
		{&Packages{Remove: []string{"a;b"}}, "remove"},
		{&Run{Script: " \n"}, "script"},
		{&Run{Script: "true", Environment: map[string]Secret{"a b": {}}}, "environment"},
		{&File{Path: "etc/motd"}, "path"},
		{&File{Path: "/etc/../../x"}, "path"},
		{&File{Path: "/"}, "path"},
		{&File{Path: "/etc/motd", Mode: "0644", Owner: "0", Group: "adm"}, "-"},
		{&File{Path: "/etc/motd", Mode: "644x"}, "mode"},
		{&File{Path: "/etc/motd", Mode: "10000"}, "mode"},
		{&File{Path: "/etc/motd", Owner: "a:b"}, "owner"},
		{&Copy{Source: "", Destination: "/srv"}, "source"},
		{&Copy{Source: "x", Destination: "srv"}, "destination"},
		{&Delete{}, "paths"},
		{&Delete{Paths: []string{"/tmp/*", "/"}}, "paths"},
		{&User{Name: "Root"}, "name"},
		{&User{Name: "deploy", UID: -1}, "uid"},
		{&User{Name: "deploy", UID: 1500, Groups: []string{"sudo"}, Shell: "/bin/bash"}, "-"},
		{&Password{User: "root"}, ""},
		{&Password{User: "root", Hash: "$6$x$y", Locked: true}, "-"},
		{&Password{User: "root", Hash: "$6$x$y", Disabled: true}, ""},
		{&Password{User: "root", Disabled: true, Locked: true}, "-"},
		{&Password{User: "root", Password: Secret{Value: "a"}, Crypto: "sha512"}, "-"},
		{&Password{User: "root", Password: Secret{Value: "a"}, Crypto: "rot13"}, "crypto"},
		{&Password{User: "root", Locked: true, Crypto: "md5"}, "crypto"},
		{&Password{User: "root", Password: Secret{Value: "a\n"}}, "password"},
		{&Password{User: "root", Hash: "secret"}, "hash"},
		{&SSHKey{User: "root", Keys: []string{key, `from="10.0.0.1" ` + key}}, "-"},
		{&SSHKey{User: "root", Keys: []string{"-----BEGIN OPENSSH PRIVATE KEY-----"}}, "keys"},
		{&Hostname{Name: "web-1.example.org"}, "-"},
		{&Hostname{Name: "-web"}, "name"},
		{&Hostname{Name: strings.Repeat("a.", 127) + "abc"}, "name"},
		{&Timezone{Zone: "Europe/Berlin"}, "-"},
		{&Timezone{Zone: "../../etc/passwd"}, "zone"},
		{&Service{Name: "ssh"}, ""},
		{&Service{Name: "ssh", Enabled: yes(), Masked: true}, "masked"},
		{&Service{Name: "a b", Masked: true}, "name"},
		{&AppendLine{Path: "/etc/hosts"}, "-"},
		{&AppendLine{Path: "/etc/hosts", Line: "a\nb"}, "line"},
		{&Chmod{Paths: []string{"/a"}, Mode: "644"}, "-"},
		{&Chmod{Paths: []string{"/a"}}, "mode"},
		{&Chmod{Paths: []string{"/a"}, Mode: "u+x"}, "mode"},
		{&Chmod{Mode: "0644"}, "paths"},
		{&Chown{Paths: []string{"/a"}, Group: "4"}, "-"},
		{&Chown{Paths: []string{"/a"}}, ""},
		{&Chown{Paths: []string{"/a"}, Owner: "a b"}, "owner"},
		{&Duplicate{Source: "/a", Destination: "/"}, "-"},
		{&Duplicate{Source: "/a", Destination: "/a/"}, "destination"},
		{&Duplicate{Source: "/a", Destination: "/ab"}, "-"},
		{&Move{Source: "/a", Destination: "/a/b"}, "destination"},
		{&Move{Source: "/", Destination: "/b"}, "source"},
		{&Link{Target: "../x", Paths: []string{"/l", "/m"}}, "-"},
		{&Link{Paths: []string{"/l"}}, "target"},
		{&Mkdir{Paths: []string{"/d"}, Mode: "9"}, "mode"},
		{&Touch{Paths: []string{"d"}}, "paths"},
		{&Truncate{}, "paths"},
		{&Scrub{Paths: []string{"/"}}, "paths"},
		{&TarIn{Source: "a.tar", Destination: "/"}, "-"},
		{&TarIn{Destination: "/srv"}, "source"},
		{&TarIn{Source: "a.tar", Destination: "srv"}, "destination"},
		{&Edit{Path: "/a", Expression: "$_ = '' if $lineno == 1"}, "-"},
		{&Edit{Path: "/a", Expression: " "}, "expression"},
		{&Edit{Path: "/a", Expression: "s/\x00//"}, "expression"},
		{&Relabel{}, "-"},
		{&Relabel{Exclude: []string{"srv"}}, "exclude"},
		{&Firstboot{Name: "register", Command: "true", Retries: 3}, "-"},
		{&Firstboot{Name: "register", Install: []string{"curl"}, Optional: true}, "-"},
		{&Firstboot{Name: "a/b", Command: "true"}, "name"},
		{&Firstboot{Name: "-a", Command: "true"}, "name"},
		{&Firstboot{Name: "a", Command: "true", Script: "true"}, ""},
		{&Firstboot{Name: "a", Script: " \n"}, ""},
		{&Firstboot{Name: "a", Install: []string{"-y"}}, "install"},
		{&Firstboot{Name: "a", Command: "true", Retries: -1}, "retries"},
		{&Firstboot{Name: "a", Command: "a\x00"}, "command"},
		{&Puppet{}, ""},
		{&Puppet{Server: "p", Manifest: "include x"}, ""},
		{&Puppet{Server: "p"}, "certname"},
		{&Puppet{Server: "p", Certname: "Web.example.org"}, "certname"},
		{&Puppet{Server: "p", Certname: "--help"}, "certname"},
		{&Puppet{Server: "p", Certname: "ca"}, "certname"},
		{&Puppet{Server: "p", Certname: strings.Repeat("c", 252)}, "certname"},
		{&Puppet{Server: "p", Certname: strings.Repeat("c", 251)}, "-"},
		{&Puppet{Server: "puppet.example.org", Certname: "web.example.org", Port: 8141, Options: map[string]string{"http_proxy_host": "proxy"}, Retries: number(0)}, "-"},
		{&Puppet{Server: "-p", Certname: "c"}, "server"},
		{&Puppet{Server: "p", Certname: "c", CAServer: "a b"}, "ca_server"},
		{&Puppet{Server: "p", Certname: "c", Port: 70000}, "port"},
		{&Puppet{Server: "p", Certname: "c", Environment: "a-b"}, "environment"},
		{&Puppet{Server: "p", Certname: "c", Timeout: "120"}, "config_timeout"},
		{&Puppet{Server: "p", Certname: "c", Options: map[string]string{"ssldir": "/x"}}, "options"},
		{&Puppet{Server: "p", Certname: "c", Options: map[string]string{"no-report": "x"}}, "options"},
		{&Puppet{Server: "p", Certname: "c", Options: map[string]string{"a": "b\nc"}}, "options"},
		{&Puppet{Server: "p", Certname: "c", Tags: []string{"a,b"}}, "tags"},
		{&Puppet{Server: "p", Certname: "c", Facts: map[string]string{"A": "b"}}, "facts"},
		{&Puppet{Server: "p", Certname: "c", TrustedFacts: map[string]string{"pp_role": "web", "1.3.6.1.4.1.34380.1.2.1": "x"}}, "-"},
		{&Puppet{Server: "p", Certname: "c", TrustedFacts: map[string]string{"role": "web"}}, "trusted_facts"},
		{&Puppet{Server: "p", Certname: "c", TrustedFacts: map[string]string{"pp_role": "a\n"}}, "trusted_facts"},
		{&Puppet{Server: "p", Certname: "c", Challenge: Secret{Value: "a\n"}}, "challenge"},
		{&Puppet{Server: "p", Certname: "c", Retries: number(-1)}, "retries"},
		{&Puppet{Server: "p", Certname: "c", Sign: []string{""}}, "sign"},
		{&Puppet{Server: "p", Certname: "c", Clean: []string{"ssh", "a\x00"}}, "clean"},
		{&Puppet{Server: "p", Certname: "c", Modules: "m"}, "modules"},
		{&Puppet{Server: "p", Certname: "c", Install: text("")}, "-"},
		{&Puppet{Server: "p", Certname: "c", Install: text("--yes")}, "install"},
		{&Puppet{Server: "p", Certname: "c", Repository: "deb https://apt.example.org bookworm puppet8", RepositoryKey: "-----BEGIN PGP PUBLIC KEY BLOCK-----\n"}, "-"},
		{&Puppet{Server: "p", Certname: "c", Repository: "deb https://apt.example.org bookworm puppet8"}, "repository"},
		{&Puppet{Server: "p", Certname: "c", Repository: "deb [trusted=yes] https://apt.example.org b p", RepositoryKey: "-----BEGIN PGP PUBLIC KEY BLOCK-----"}, "repository"},
		{&Puppet{Server: "p", Certname: "c", Repository: "deb https://apt.example.org b p", RepositoryKey: "-----BEGIN PGP PRIVATE KEY BLOCK-----"}, "repository_key"},
		{&Puppet{Server: "p", Certname: "c", Install: text(""), Repository: "deb https://a b c", RepositoryKey: "-----BEGIN PGP PUBLIC KEY BLOCK-----"}, "repository"},
		{&Puppet{Manifest: "include x", Modules: "modules", Facts: map[string]string{"a": "b"}, Certname: "c"}, "-"},
		{&Puppet{Manifest: "include x", Port: 1}, "port"},
		{&Puppet{Manifest: "include x", Clean: []string{"x"}}, "clean"},
		{&Puppet{Manifest: "include x", Challenge: Secret{Value: "x"}}, "challenge"},
		{&Puppet{Manifest: "include x", ConfigVersion: "v"}, "config_version"},
		{&Puppet{Manifest: "a\x00"}, "manifest"},
		{&Sysprep{Operations: []string{"machine-id"}}, "-"},
		{&Sysprep{Operations: []string{"machine-di"}}, "operations"},
		{&Sysprep{Operations: []string{"machine-id", "-machine-di"}}, "operations"},
		{&Sysprep{Operations: []string{"defaults,"}}, "operations"},
		{&Sysprep{Enable: []string{"defaults"}}, "enable"},
		{&Sysprep{Enable: []string{"machine-id, tmp-files"}}, "enable"},
		{&Sysprep{Operations: []string{"defaults,-ssh-userdir,user-account"}, KeepUserAccounts: []string{"bob,eve"}}, "-"},
		{&Sysprep{KeepUserAccounts: []string{"bob"}}, "keep_user_accounts"},
		{&Sysprep{Operations: []string{"all"}, RemoveUserAccounts: []string{"bob,"}}, "remove_user_accounts"},
		{&Sysprep{Operations: []string{"all"}, RemoveUserAccounts: []string{"../etc"}}, "remove_user_accounts"},
		{&Sysprep{Scripts: []string{"true"}}, "-"},
		{&Sysprep{Scripts: []string{" "}}, "scripts"},
		{&Sysprep{Operations: []string{"machine-id"}, Scripts: []string{"true"}}, "scripts"},
		{&Sysprep{MachineID: "uninitialized"}, "-"},
		{&Sysprep{MachineID: "random"}, "machine_id"},
		{&Sysprep{Enable: []string{"tmp-files"}, MachineID: "uninitialized"}, "machine_id"},
	} {
		problems := c.o.Check()
		switch {
		case c.field == "-" && len(problems) > 0:
			t.Errorf("%s %+v: %v, want no problem", c.o.Kind(), c.o, problems)
		case c.field != "-" && (len(problems) != 1 || problems[0].Field != c.field):
			t.Errorf("%s %+v: %v, want one at %q", c.o.Kind(), c.o, problems, c.field)
		}
	}
}
