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

func TestEnvelopeCarriesEveryKind(t *testing.T) {
	full := map[string]Operation{
		"packages": &Packages{Install: []string{"curl"}, Remove: []string{"nano"}, Update: true},
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
		"edit":       &Edit{Path: "/a", Expression: "s/a/b/"},
		"relabel":    &Relabel{Exclude: []string{"/srv"}, AtBoot: true},
		"firstboot":  &Firstboot{Name: "n", Script: "true", Command: "true", Install: []string{"curl"}, Retries: 1, Optional: true},
		"bootloader": &Bootloader{}, "agent": &Agent{},
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
