package customize

import (
	"cmp"
	"slices"
	"strings"

	"herdbook/internal/op"
)

// Option is one option of virt-customize.
type Option struct {
	Name     string // without hyphens
	Argument string // its shape; "" for a switch
	Help     string
	Kind     string // of the operation that it becomes; "" for what decides about others
	Refused  string // why it is not offered; "" if it is
	add      func(o *Options, value string) error
}

// Lookup finds an option by its name.
func Lookup(name string) (Option, bool) {
	for _, o := range table {
		if o.Name == name {
			return o, true
		}
	}
	return Option{}, false
}

// Table lists all options, those that are refused among them, sorted by name.
func Table() []Option {
	return slices.SortedFunc(slices.Values(table), func(a, b Option) int { return cmp.Compare(a.Name, b.Name) })
}

// Flags lists the options that are offered, sorted by name.
func Flags() []Option {
	return slices.DeleteFunc(Table(), func(o Option) bool { return o.Refused != "" })
}

// commandsFromFile is the one option that leads to others.
const commandsFromFile = "commands-from-file"

const (
	windows      = "it is for Windows guests, and herdbook knows Linux only"
	subscription = "virt-customize has it no more; --run-command 'subscription-manager …' does the same"
)

// table is every option that changes a guest.
var table = []Option{
	{Name: "append-line", Argument: "FILE:LINE", Help: "put a line at the end of a file", Kind: "append_line", add: pair(func(path, line string) op.Operation {
		return &op.AppendLine{Path: path, Line: line}
	})},
	{Name: "chmod", Argument: "MODE:FILE", Help: "change the mode of a file; MODE is octal, always", Kind: "chmod", add: pair(func(mode, path string) op.Operation {
		return &op.Chmod{Paths: []string{path}, Mode: mode}
	})},
	{Name: "chown", Argument: "OWNER:GROUP:PATH", Help: "change the owner and group of a file or directory", Kind: "chown", add: chown},
	{Name: commandsFromFile, Argument: "FILE", Help: "read options from a file, one a line and without their hyphens"},
	{Name: "copy", Argument: "SOURCE:DEST", Help: "copy files within the guest", Kind: "duplicate", add: pair(func(from, to string) op.Operation {
		return &op.Duplicate{Source: from, Destination: to}
	})},
	{Name: "copy-in", Argument: "LOCALPATH:REMOTEDIR", Help: "copy a file or directory of the host into a directory of the guest", Kind: "copy", add: copyIn},
	{Name: "delete", Argument: "PATH", Help: "delete what PATH matches: * ? [ ] { }", Kind: "delete", add: single(func(path string) op.Operation {
		return &op.Delete{Paths: []string{path}}
	})},
	{Name: "edit", Argument: "FILE:EXPR", Help: "edit a file by substitutions s/…/…/, or any expression if the guest has Perl", Kind: "edit", add: pair(func(path, expression string) op.Operation {
		return &op.Edit{Path: path, Expression: expression}
	})},
	{Name: "firstboot", Argument: "SCRIPT", Help: "run a script of the host at the first boot", Kind: "firstboot", add: firstbootScript},
	{Name: "firstboot-command", Argument: "'CMD+ARGS'", Help: "run a command at the first boot", Kind: "firstboot", add: single(func(command string) op.Operation {
		return &op.Firstboot{Name: firstbootName(command), Command: command}
	})},
	{Name: "firstboot-install", Argument: "PKG,PKG..", Help: "install packages at the first boot", Kind: "firstboot", add: single(func(names string) op.Operation {
		return &op.Firstboot{Name: firstbootName("install-" + names), Install: strings.Split(names, ",")}
	})},
	{Name: "hostname", Argument: "HOSTNAME", Help: "set the host name", Kind: "hostname", add: single(func(name string) op.Operation { return &op.Hostname{Name: name} })},
	{Name: "inject-blnsvr", Argument: "METHOD", Refused: windows},
	{Name: "inject-qemu-ga", Argument: "METHOD", Refused: windows},
	{Name: "inject-virtio-win", Argument: "METHOD", Refused: windows},
	{Name: "install", Argument: "PKG,PKG..", Help: "install packages", Kind: "packages", add: single(func(names string) op.Operation {
		return &op.Packages{Install: strings.Split(names, ",")}
	})},
	{Name: "link", Argument: "TARGET:LINK[:LINK..]", Help: "make symbolic links", Kind: "link", add: link},
	{Name: "mkdir", Argument: "DIR", Help: "make a directory with its parents", Kind: "mkdir", add: single(func(path string) op.Operation {
		return &op.Mkdir{Paths: []string{path}}
	})},
	{Name: "move", Argument: "SOURCE:DEST", Help: "move files within the guest", Kind: "move", add: pair(func(from, to string) op.Operation {
		return &op.Move{Source: from, Destination: to}
	})},
	{Name: "no-logfile", Help: "does nothing: no log of the work is left in the guest", add: nothing},
	{Name: "no-selinux-relabel", Help: "leave SELinux's labels as they are", add: func(o *Options, _ string) error { o.noRelabel = true; return nil }},
	{Name: "password", Argument: "USER:SELECTOR", Help: "set a password: file:F, password:P, random, disabled, locked, locked:SELECTOR", Kind: "password", add: password},
	{Name: "password-crypto", Argument: "md5|sha256|sha512|yescrypt", Help: "hash passwords in this way, not as the guest does by itself", add: passwordCrypto},
	{Name: "root-password", Argument: "SELECTOR", Help: "set root's password, as --password does", Kind: "password", add: func(o *Options, v string) error { return password(o, "root:"+v) }},
	{Name: "run", Argument: "SCRIPT", Help: "run a script of the host in the guest", Kind: "run", add: run},
	{Name: "run-command", Argument: "'CMD+ARGS'", Help: "run a command in the guest", Kind: "run", add: single(func(command string) op.Operation { return &op.Run{Script: command} })},
	{Name: "scrub", Argument: "FILE", Help: "overwrite and delete a file", Kind: "scrub", add: single(func(path string) op.Operation {
		return &op.Scrub{Paths: []string{path}}
	})},
	{Name: "selinux-relabel", Help: "does nothing: files are relabelled unless --no-selinux-relabel is given", add: nothing},
	{Name: "selinux-relabel-at-boot", Help: "have the guest relabel its files at its next boot", Kind: "relabel", add: func(o *Options, _ string) error { o.relabel.AtBoot = true; return nil }},
	{Name: "selinux-relabel-exclude", Argument: "DIR", Help: "leave SELinux's labels in a directory as they are", Kind: "relabel", add: relabelExclude},
	{Name: "sm-attach", Argument: "SELECTOR", Refused: subscription},
	{Name: "sm-credentials", Argument: "SELECTOR", Refused: subscription},
	{Name: "sm-register", Refused: subscription},
	{Name: "sm-remove", Refused: subscription},
	{Name: "sm-unregister", Refused: subscription},
	{Name: "ssh-inject", Argument: "USER[:SELECTOR]", Help: "let a public key log in: file:F, string:KEY; without a selector, your own", Kind: "ssh_key", add: sshInject},
	{Name: "tar-in", Argument: "TARFILE:REMOTEDIR", Help: "unpack a tar of the host into a directory of the guest", Kind: "tar_in", add: tarIn},
	{Name: "timezone", Argument: "TIMEZONE", Help: "set the time zone, such as Europe/Berlin", Kind: "timezone", add: single(func(zone string) op.Operation { return &op.Timezone{Zone: zone} })},
	{Name: "touch", Argument: "FILE", Help: "set a file's times to now, or make it", Kind: "touch", add: single(func(path string) op.Operation {
		return &op.Touch{Paths: []string{path}}
	})},
	{Name: "truncate", Argument: "FILE", Help: "empty a file", Kind: "truncate", add: single(func(path string) op.Operation {
		return &op.Truncate{Paths: []string{path}}
	})},
	{Name: "truncate-recursive", Argument: "PATH", Help: "empty all files below a directory", Kind: "truncate", add: single(func(path string) op.Operation {
		return &op.Truncate{Paths: []string{path}, Recursive: true}
	})},
	{Name: "uninstall", Argument: "PKG,PKG..", Help: "remove packages with their configuration", Kind: "packages", add: single(func(names string) op.Operation {
		return &op.Packages{Remove: strings.Split(names, ",")}
	})},
	{Name: "update", Help: "bring all packages up to date", Kind: "packages", add: func(o *Options, _ string) error { return o.push(&op.Packages{Update: true}) }},
	{Name: "upload", Argument: "FILE:DEST", Help: "copy a file of the host to a path or into a directory of the guest", Kind: "copy", add: upload},
	{Name: "write", Argument: "FILE:CONTENT", Help: "write a file", Kind: "file", add: pair(func(path, content string) op.Operation {
		return &op.File{Path: path, Content: content, Keep: true}
	})},
}
