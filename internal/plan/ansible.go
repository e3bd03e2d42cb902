package plan

import (
	"maps"
	"slices"
	"strconv"

	"herdbook/internal/definition"
	"herdbook/internal/op"
)

// configureLines are those of the operations that leave the work to a program of its own.
func configureLines(l *lines, o op.Operation, files []definition.Input) {
	switch o := o.(type) {
	case *op.Puppet:
		puppetLines(l, o, files)
	case *op.Ansible:
		ansibleLines(l, o, files)
	case *op.CloudInit:
		l.secret("user data", o.UserData)
		l.addIf("meta data", o.MetaData)
		l.addIf("network config", o.NetworkConfig)
		// What is let pass by decides whether the step ends, not how.
	}
}

// ansibleLines leave out the path of the playbook's directory, since all that is in it is
// named; the version of Ansible, as the same definition would else have other keys on every
// host, and a plan could not be made where Ansible is not installed (the layer's record tells
// which it was); and the vault's password, which only opens what is named.
func ansibleLines(l *lines, o *op.Ansible, tree []definition.Input) {
	playbook, _ := o.InTree()
	l.add("playbook", playbook)
	inputLines(l, tree)
	l.add("host", o.InventoryHost())
	l.add("group", o.Groups...)
	for _, name := range slices.Sorted(maps.Keys(o.Variables)) {
		l.secret("variable "+name, o.Variables[name])
	}
	l.add("tag", o.Tags...)
	l.add("skip tag", o.SkipTags...)
	l.add("argument", o.Arguments...)
	l.add("user", o.Account())
	l.flag("become", o.Become)
	l.addIf("python", o.Python)
	if o.Idempotent != nil {
		l.add("idempotent", strconv.FormatBool(*o.Idempotent))
	}
}
