package plan

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"herdbook/internal/definition"
	"herdbook/internal/op"
)

// operationLines writes what one operation depends on. A kind that stands here
// by mistake with too little would be a wrong cache hit, so an unknown one
// panics: the test that goes through all kinds would meet it first.
func operationLines(l *lines, o op.Operation, files []definition.Input) {
	switch o := o.(type) {
	case *op.Packages:
		packagesLines(l, o)
	case *op.Run:
		scriptLines(l, o.Script, o.Environment)
	case *op.Boot:
		scriptLines(l, o.Script, o.Environment)
	case *op.File:
		l.add("path", o.Path)
		l.add("content", o.Content)
		ownership(l, o.Mode, o.Owner, o.Group)
		l.flag("keep", o.Keep)
	case *op.Copy:
		l.add("destination", o.Destination) // the source's name changes nothing, its content does
		l.addIf("name", o.Name)
		ownership(l, "", o.Owner, o.Group)
		inputLines(l, files)
	case *op.Delete:
		l.add("path", o.Paths...)
	case *op.User:
		userLines(l, o)
	case *op.Password:
		l.add("user", o.User)
		if !o.Password.IsZero() {
			l.secret("password", o.Password)
		}
		l.addIf("hash", o.Hash)
		l.flag("disabled", o.Disabled)
		l.flag("locked", o.Locked)
		l.addIf("crypto", o.Crypto)
	case *op.SSHKey:
		l.add("user", o.User)
		l.add("key", o.Keys...)
	case *op.Hostname, *op.Timezone, *op.Agent:
		nameLines(l, o)
	case *op.Service:
		serviceLines(l, o)
	case *op.AppendLine, *op.Chmod, *op.Chown, *op.Duplicate, *op.Move, *op.Link, *op.Mkdir, *op.Touch, *op.Truncate, *op.Scrub, *op.Edit:
		fileLines(l, o)
	case *op.TarIn:
		l.add("destination", o.Destination)
		inputLines(l, files)
	case *op.Sysprep:
		sysprepLines(l, o)
	case *op.Firstboot:
		firstbootLines(l, o)
	case *op.Relabel:
		relabelLines(l, o)
	case *op.Puppet, *op.Ansible, *op.CloudInit:
		configureLines(l, o, files)
	case *op.Bootloader:
	default:
		panic(fmt.Sprintf("plan: operation %T has no key", o))
	}
}

func packagesLines(l *lines, o *op.Packages) {
	l.flag("update", o.Update)
	l.add("install", slices.Compact(slices.Sorted(slices.Values(o.Install)))...)
	l.add("remove", slices.Compact(slices.Sorted(slices.Values(o.Remove)))...)
	l.flag("missing", o.Missing)
	for _, manager := range slices.Sorted(maps.Keys(o.Elsewhere)) {
		l.add("install by "+manager, o.Elsewhere[manager])
	}
}

func scriptLines(l *lines, script string, environment map[string]op.Secret) {
	l.add("script", script)
	for _, name := range slices.Sorted(maps.Keys(environment)) {
		l.secret("environment "+name, environment[name])
	}
}

func ownership(l *lines, mode, owner, group string) {
	l.addIf("mode", mode)
	l.addIf("owner", owner)
	l.addIf("group", group)
}

// fileLines are those of the operations on files that the guest has.
func fileLines(l *lines, o op.Operation) {
	switch o := o.(type) {
	case *op.AppendLine:
		l.add("path", o.Path)
		l.add("line", o.Line)
	case *op.Chmod:
		l.add("path", o.Paths...)
		ownership(l, o.Mode, "", "")
	case *op.Chown:
		l.add("path", o.Paths...)
		ownership(l, "", o.Owner, o.Group)
	case *op.Duplicate:
		l.add("source", o.Source)
		l.add("destination", o.Destination)
	case *op.Move:
		l.add("source", o.Source)
		l.add("destination", o.Destination)
	case *op.Link:
		l.add("target", o.Target)
		l.add("path", o.Paths...)
	case *op.Mkdir:
		l.add("path", o.Paths...)
		ownership(l, o.Mode, "", "")
	case *op.Touch:
		l.add("path", o.Paths...)
	case *op.Truncate:
		l.add("path", o.Paths...)
		l.flag("recursive", o.Recursive)
	case *op.Scrub:
		l.add("path", o.Paths...)
	case *op.Edit:
		l.add("path", o.Path)
		l.add("expression", o.Expression)
	}
}

func userLines(l *lines, o *op.User) {
	l.add("name", o.Name)
	if o.UID != 0 {
		l.add("uid", strconv.Itoa(o.UID))
	}
	l.addIf("group", o.Group)
	l.add("supplementary", o.Groups...)
	l.addIf("shell", o.Shell)
	l.addIf("home", o.Home)
	l.flag("system", o.System)
}

// nameLines are those of operations that say names and nothing else.
func nameLines(l *lines, o op.Operation) {
	switch o := o.(type) {
	case *op.Hostname:
		l.add("name", o.Name)
	case *op.Timezone:
		l.add("zone", o.Zone)
	case *op.Agent:
		l.add("mask", o.Mask...)
	}
}

func serviceLines(l *lines, o *op.Service) {
	l.add("name", o.Name)
	if o.Enabled != nil {
		l.add("enabled", strconv.FormatBool(*o.Enabled))
	}
	l.flag("masked", o.Masked)
}

func relabelLines(l *lines, o *op.Relabel) {
	l.add("exclude", o.Exclude...)
	l.flag("at boot", o.AtBoot)
}

func firstbootLines(l *lines, o *op.Firstboot) {
	l.add("name", o.Name)
	l.addIf("script", o.Script)
	l.addIf("command", o.Command)
	l.add("install", o.Install...)
	if o.Retries != 0 {
		l.add("retries", strconv.Itoa(o.Retries))
	}
	l.flag("optional", o.Optional)
}

// sysprepLines spell the selection out, so that a new default is a new key.
func sysprepLines(l *lines, o *op.Sysprep) {
	for _, operation := range o.Selected() {
		l.add("sysprep", operation.Name)
	}
	l.add("remove account", o.RemovedAccounts()...)
	l.add("keep account", o.KeptAccounts()...)
	l.add("script", o.Scripts...)
	l.addIf("machine-id", o.MachineID)
}

func inputLines(l *lines, files []definition.Input) {
	for _, f := range files {
		inputLine(l, f)
	}
}

func inputLine(l *lines, f definition.Input) {
	// Modification times are left out: a fresh checkout has others.
	l.add("input", fmt.Sprintf("%s %s %d %s %s", f.Mode, f.Digest, f.Size, strconv.Quote(f.Name), strconv.Quote(f.Link)))
}
