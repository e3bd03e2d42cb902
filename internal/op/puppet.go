package op

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Puppet lets Puppet's agent bring the booted system to what a server's catalogue
// says, or, with Manifest in place of Server, to what a manifest says. A second run
// must change nothing. Its keys and certificate are made for the run and leave no
// trace in the image.
type Puppet struct {
	Server       string            `hcl:"server,optional" json:"server,omitempty"`
	Port         int               `hcl:"port,optional" json:"port,omitempty"` // default 8140
	CAServer     string            `hcl:"ca_server,optional" json:"ca_server,omitempty"`
	Environment  string            `hcl:"environment,optional" json:"environment,omitempty"`       // default the agent's own choice
	Certname     string            `hcl:"certname,optional" json:"certname,omitempty"`             // of the build, not of clones
	Timeout      string            `hcl:"config_timeout,optional" json:"config_timeout,omitempty"` // of one request to the server; default the agent's own
	Options      map[string]string `hcl:"options,optional" json:"options,omitempty"`               // further settings of Puppet by name
	Tags         []string          `hcl:"tags,optional" json:"tags,omitempty"`                     // only resources with one of them
	Facts        map[string]string `hcl:"facts,optional" json:"facts,omitempty"`                   // external facts, for the run only
	TrustedFacts map[string]string `hcl:"trusted_facts,optional" json:"trusted_facts,omitempty"`   // extensions of the certificate request
	Challenge    Secret            `hcl:"challenge,optional" json:"challenge,omitzero"`            // challengePassword of the certificate request

	Manifest string `hcl:"manifest,optional" json:"manifest,omitempty"` // its text, for puppet apply
	Modules  string `hcl:"modules,optional" json:"modules,omitempty"`   // directory of modules on the host, relative to the definition

	ConfigVersion string `hcl:"config_version,optional" json:"config_version,omitempty"` // that the catalogue must have
	Retries       *int   `hcl:"retries,optional" json:"retries,omitempty"`               // after what is transient; default DefaultRetries
	Idempotent    *bool  `hcl:"idempotent,optional" json:"idempotent,omitempty"`         // a second run must change nothing; default true

	Install       *string `hcl:"install,optional" json:"install,omitempty"`               // package of the agent, if there is none; default puppet-agent, "" for none
	Repository    string  `hcl:"repository,optional" json:"repository,omitempty"`         // a line of apt's sources.list that has the package
	RepositoryKey string  `hcl:"repository_key,optional" json:"repository_key,omitempty"` // the OpenPGP key, in ASCII armour, that signs the repository
	KeepAgent     *bool   `hcl:"keep_agent,optional" json:"keep_agent,omitempty"`         // an agent that was installed stays, with its repository; default true

	Sign  []string `hcl:"sign,optional" json:"-"`  // command on the host that signs the request, when it waits
	Clean []string `hcl:"clean,optional" json:"-"` // command on the host that makes the CA forget the certificate
	// Payload is the name of Modules in the tar of files, set by the build.
	Payload string `json:"payload,omitempty"`
}

// DefaultPuppetPort is where a Puppet server listens.
const DefaultPuppetPort = 8140

// DefaultPuppetPackage is what an agent comes in, in Debian and in Puppet's own
// repositories.
const DefaultPuppetPackage = "puppet-agent"

// DefaultRetries is how often what is transient is tried again.
const DefaultRetries = 3

// maxPuppetRetries bounds the attempts: with pauses of up to a minute they take hours.
const maxPuppetRetries = 100

var (
	// With .pem it is the name of a file.
	certname          = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,250}$`)
	puppetEnvironment = regexp.MustCompile(`^[A-Za-z0-9_]+$`)
	puppetSetting     = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	puppetTag         = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_:.-]*$`)
	factName          = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	extensionName     = regexp.MustCompile(`^(?:pp_[a-z_]+|[0-9]+(?:\.[0-9]+)+)$`)
)

// puppetOwn are settings that the step has another name for, or that are what it
// rests on.
var puppetOwn = map[string]string{
	"server": "say server", "serverport": "say port", "masterport": "say port", "ca_server": "say ca_server", "environment": "say environment",
	"certname": "say certname", "tags": "say tags", "config_version": "say config_version", "csr_attributes": "say trusted_facts and challenge",
	"modulepath": "say modules", "waitforcert": "say retries, and sign", "http_connect_timeout": "say config_timeout", "http_read_timeout": "say config_timeout",
	"ssldir": "", "vardir": "", "statedir": "", "rundir": "", "publicdir": "", "logdest": "", "lastrunfile": "", "lastrunreport": "", "report": "",
	"onetime": "", "daemonize": "", "splay": "", "detailed_exitcodes": "", "usecacheonfailure": "", "noop": "", "color": "",
}

// Kind implements Operation.
func (*Puppet) Kind() string { return "puppet" }

// Version implements Operation.
func (*Puppet) Version() int { return 1 }

// Attempts is how often a run is tried at most.
func (p *Puppet) Attempts() int {
	if p.Retries == nil {
		return 1 + DefaultRetries
	}
	return 1 + *p.Retries
}

// Package is what the agent is installed from if there is none; "" for nothing.
func (p *Puppet) Package() string {
	if p.Install == nil {
		return DefaultPuppetPackage
	}
	return *p.Install
}

// Twice tells whether a second run must change nothing.
func (p *Puppet) Twice() bool { return p.Idempotent == nil || *p.Idempotent }

// Keep tells whether an agent that was installed stays.
func (p *Puppet) Keep() bool { return p.KeepAgent == nil || *p.KeepAgent }

// Check implements Operation.
func (p *Puppet) Check() []Problem {
	var problems []Problem
	if (p.Server == "") == (strings.TrimSpace(p.Manifest) == "") {
		problems = append(problems, Problem{"", "exactly one of server and manifest must be given", `manifest is the text itself: file("site.pp")`})
		return problems
	}
	if p.Server == "" {
		problems = append(problems, p.checkApply()...)
	} else {
		problems = append(problems, p.checkServer()...)
	}
	problems = append(problems, p.checkSettings()...)
	if p.Retries != nil && (*p.Retries < 0 || *p.Retries > maxPuppetRetries) {
		problems = append(problems, Problem{"retries", fmt.Sprintf("%d is not from 0 to %d", *p.Retries, maxPuppetRetries), ""})
	}
	return append(problems, p.checkInstall()...)
}

// checkServer holds what a run with a server needs.
func (p *Puppet) checkServer() []Problem {
	problems := append(checkHost("server", p.Server), checkHost("ca_server", p.CAServer)...)
	if p.Port < 0 || p.Port > 65535 {
		problems = append(problems, Problem{"port", fmt.Sprintf("%d is not a port", p.Port), ""})
	}
	switch {
	case p.Certname == "":
		problems = append(problems, Problem{"certname", "a run with a server needs the name that its certificate is made out for", "one of the build's own, such as build-web.example.org: clones get theirs"})
	case !isCertname(p.Certname):
		problems = append(problems, Problem{"certname", fmt.Sprintf("%q is not the name of a certificate", p.Certname), "lower-case letters, digits, dots, hyphens and underlines, at most 251, and not just ca"})
	}
	if strings.ContainsFunc(p.Challenge.Value, isControl) {
		problems = append(problems, Problem{"challenge", "it holds a line break or another control character", "does its file end in one? use trimspace()"})
	}
	for name, value := range p.TrustedFacts {
		if !extensionName.MatchString(name) {
			problems = append(problems, Problem{"trusted_facts", fmt.Sprintf("%q is not the name of an extension", name), "one of Puppet's, such as pp_role, or an OID"})
		}
		if strings.ContainsFunc(value, isControl) {
			problems = append(problems, Problem{"trusted_facts", fmt.Sprintf("the value of %s holds a control character", name), ""})
		}
	}
	for field, command := range map[string][]string{"sign": p.Sign, "clean": p.Clean} {
		if len(command) > 0 && (command[0] == "" || strings.ContainsRune(strings.Join(command, ""), 0)) {
			problems = append(problems, Problem{field, "it names no program, or holds a NUL byte", `a program and its arguments: ["ssh", "ca.example.org", "…"]`})
		}
	}
	if p.Modules != "" {
		problems = append(problems, Problem{"modules", "with a server, it gives the modules", "manifest is for a run without one"})
	}
	return problems
}

// isCertname tells whether a name may be that of a node. Puppet keeps one for the CA.
func isCertname(name string) bool { return certname.MatchString(name) && name != "ca" }

// checkApply refuses what only a run with a server has.
func (p *Puppet) checkApply() []Problem {
	var problems []Problem
	for _, f := range []struct {
		field string
		given bool
	}{
		{"port", p.Port != 0}, {"ca_server", p.CAServer != ""}, {"config_timeout", p.Timeout != ""}, {"trusted_facts", len(p.TrustedFacts) > 0},
		{"challenge", !p.Challenge.IsZero()}, {"sign", len(p.Sign) > 0}, {"clean", len(p.Clean) > 0}, {"config_version", p.ConfigVersion != ""},
	} {
		if f.given {
			problems = append(problems, Problem{f.field, "a manifest is applied without a server", ""})
		}
	}
	if p.Certname != "" && !isCertname(p.Certname) {
		problems = append(problems, Problem{"certname", fmt.Sprintf("%q is not the name of a certificate", p.Certname), ""})
	}
	if strings.ContainsRune(p.Manifest, 0) {
		problems = append(problems, Problem{"manifest", "it holds a NUL byte", ""})
	}
	return problems
}

// checkSettings holds what becomes settings and facts.
func (p *Puppet) checkSettings() []Problem {
	var problems []Problem
	if p.Environment != "" && !puppetEnvironment.MatchString(p.Environment) {
		problems = append(problems, Problem{"environment", fmt.Sprintf("%q is not the name of an environment", p.Environment), "letters, digits and underlines"})
	}
	if p.Timeout != "" {
		if d, err := time.ParseDuration(p.Timeout); err != nil || d < time.Second {
			problems = append(problems, Problem{"config_timeout", fmt.Sprintf("%q is not a duration of a second or more", p.Timeout), `such as "2m"`})
		}
	}
	for _, tag := range p.Tags {
		if !puppetTag.MatchString(tag) {
			problems = append(problems, Problem{"tags", fmt.Sprintf("%q is not a tag", tag), ""})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Options)) {
		hint, own := puppetOwn[name]
		switch {
		case own:
			problems = append(problems, Problem{"options", name + " is not for options", hint})
		case !puppetSetting.MatchString(name):
			problems = append(problems, Problem{"options", fmt.Sprintf("%q is not the name of a setting", name), "as in puppet.conf, with underlines"})
		case strings.ContainsFunc(p.Options[name], isControl):
			problems = append(problems, Problem{"options", fmt.Sprintf("the value of %s holds a control character", name), ""})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Facts)) {
		if !factName.MatchString(name) {
			problems = append(problems, Problem{"facts", fmt.Sprintf("%q is not the name of a fact", name), "lower-case letters, digits and underlines"})
		}
	}
	return problems
}

// checkInstall holds how the agent comes into the image.
func (p *Puppet) checkInstall() []Problem {
	var problems []Problem
	if name := p.Package(); name != "" && !packageName.MatchString(name) {
		problems = append(problems, Problem{"install", fmt.Sprintf("%q is not a package name", name), ""})
	}
	if (p.Repository == "") != (strings.TrimSpace(p.RepositoryKey) == "") {
		problems = append(problems, Problem{"repository", "a repository and its key belong together", `repository_key = file("puppet.asc")`})
	} else if p.Repository != "" {
		problems = append(problems, p.checkRepository()...)
	}
	return problems
}

func (p *Puppet) checkRepository() []Problem {
	switch words := strings.Fields(p.Repository); {
	case p.Package() == "":
		return []Problem{{"repository", "nothing is installed from it", "leave install away, or say a package"}}
	case strings.ContainsFunc(p.Repository, isControl) || len(words) < 3 || words[0] != "deb" || strings.HasPrefix(words[1], "["):
		return []Problem{{"repository", "it is not a line of apt's sources.list without options", `such as "deb https://apt.example.org bookworm puppet8"`}}
	case !strings.HasPrefix(strings.TrimSpace(p.RepositoryKey), "-----BEGIN PGP PUBLIC KEY BLOCK-----"):
		return []Problem{{"repository_key", "it is not an OpenPGP public key in ASCII armour", "gpg --armor --export KEY writes one"}}
	}
	return nil
}

// checkHost takes a host name; nothing at all is no problem.
func checkHost(field, host string) []Problem {
	if host == "" {
		return nil
	}
	if problems := (&Hostname{Name: host}).Check(); len(problems) > 0 {
		return []Problem{{field, problems[0].Message, problems[0].Hint}}
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
