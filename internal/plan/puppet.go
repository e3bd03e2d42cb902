package plan

import (
	"maps"
	"slices"
	"strconv"

	"herdbook/internal/definition"
	"herdbook/internal/op"
)

// puppetLines leave out what decides whether the run succeeds, not what it does: how
// long and how often something is tried, and how the certificate comes to be signed,
// the challenge with it. What a server makes of it all is not known before;
// config_version lets the definition say it.
func puppetLines(l *lines, o *op.Puppet, modules []definition.Input) {
	l.addIf("server", o.Server)
	if o.Port != 0 {
		l.add("port", strconv.Itoa(o.Port))
	}
	l.addIf("ca server", o.CAServer)
	l.addIf("environment", o.Environment)
	l.addIf("certname", o.Certname)
	l.texts("option", o.Options)
	l.add("tag", o.Tags...)
	l.texts("fact", o.Facts)
	l.texts("trusted fact", o.TrustedFacts)
	l.addIf("manifest", o.Manifest)
	inputLines(l, modules)
	l.addIf("config version", o.ConfigVersion)
	if o.Idempotent != nil {
		l.add("idempotent", strconv.FormatBool(*o.Idempotent))
	}
	if o.Install != nil {
		l.add("install", *o.Install)
	}
	l.addIf("repository", o.Repository)
	l.addIf("repository key", o.RepositoryKey)
	if o.KeepAgent != nil {
		l.add("keep agent", strconv.FormatBool(*o.KeepAgent))
	}
}

// texts are those of a map; a name may not forge a value.
func (l *lines) texts(label string, m map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		l.add(label, strconv.Quote(name)+" "+m[name])
	}
}
