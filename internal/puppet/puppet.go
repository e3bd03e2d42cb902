// Package puppet knows Puppet's agent from outside: the command lines and files of a
// run, what its exit status and its words mean, and the report that it leaves. It runs
// nothing.
package puppet

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"herdbook/internal/op"
)

// Programs are the places of Puppet's program, in the order in which they are looked
// at: a vendor's own comes before the distribution's.
var Programs = []string{"/opt/puppetlabs/bin/puppet", "/usr/bin/puppet", "/usr/local/bin/puppet"}

// Units are the services that run Puppet by themselves. They must not run beside us.
var Units = []string{"puppet.service", "puppet-agent.service", "pxp-agent.service"}

// Services reads what "systemctl show" has of units, a block of NAME=VALUE for each: which
// of them run, and whether any is masked.
func Services(text string) (running []string, masked bool) {
	for block := range strings.SplitSeq(text, "\n\n") {
		properties := map[string]string{}
		for line := range strings.Lines(block) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			properties[name] = value
		}
		masked = masked || properties["LoadState"] == "masked"
		if state := properties["ActiveState"]; state == "active" || state == "activating" || state == "reloading" {
			running = append(running, properties["Id"])
		}
	}
	return running, masked
}

// RunPhase is what the agent says when Puppet is about to run: from then on the CA may
// know of it.
const RunPhase = "puppet"

// Dir is a directory for one run, of which nothing is left: keys, certificate, state,
// caches and what the run is told. The configuration is the image's own.
type Dir string

// Report is where the agent leaves its report.
func (d Dir) Report() string { return path.Join(string(d), "last_run_report.yaml") }

// Modules is where the modules of puppet apply lie.
func (d Dir) Modules() string { return path.Join(string(d), "modules") }

func (d Dir) ssl() string        { return path.Join(string(d), "ssl") }
func (d Dir) attributes() string { return path.Join(string(d), "csr_attributes.yaml") }
func (d Dir) manifest() string   { return path.Join(string(d), "manifest.pp") }

// Certificate is the agent's own, once the CA has signed it.
func (d Dir) Certificate(name string) string { return path.Join(d.ssl(), "certs", name+".pem") }

// Request is what the agent leaves of a certificate that the CA has not signed.
func (d Dir) Request(name string) string {
	return path.Join(d.ssl(), "certificate_requests", name+".pem")
}

// Arguments is the command line of a run, behind the program. The settings are those
// that every Puppet since 3.8 has.
func Arguments(o *op.Puppet, d Dir) []string {
	args := []string{"agent", "--onetime", "--no-daemonize", "--no-splay", "--no-usecacheonfailure", "--waitforcert", "0"}
	if o.Server == "" {
		args = []string{"apply", "--modulepath", d.Modules() + ":$basemodulepath"}
	}
	args = append(args, "--verbose", "--color", "false", "--detailed-exitcodes", "--no-noop", "--report", "--logdest", "console")
	for _, dir := range []string{"vardir", "ssldir", "rundir", "logdir"} {
		args = append(args, "--"+dir, path.Join(string(d), strings.TrimSuffix(dir, "dir")))
	}
	args = append(args, "--lastrunfile", path.Join(string(d), "last_run_summary.yaml"), "--lastrunreport", d.Report())
	add := func(setting, value string) {
		if value != "" {
			args = append(args, "--"+setting, value)
		}
	}
	add("certname", o.Certname)
	add("server", o.Server)
	if o.Server != "" {
		// Ruby reads from a connection that was kept, to see whether it has ended. Where the
		// server's ticket of TLS 1.3 has come, that lasts until the server ends it: 30 seconds
		// between the request of a certificate and its download.
		add("http_keepalive_timeout", "0")
	}
	if o.Port != 0 {
		add("masterport", strconv.Itoa(o.Port)) // serverport is a younger name of it
	}
	add("ca_server", o.CAServer)
	add("environment", o.Environment)
	if limit, err := time.ParseDuration(o.Timeout); err == nil {
		seconds := strconv.Itoa(int(limit.Seconds())) + "s"
		add("http_connect_timeout", seconds)
		add("http_read_timeout", seconds)
	}
	if hasAttributes(o) {
		add("csr_attributes", d.attributes())
	}
	add("tags", strings.Join(o.Tags, ","))
	for _, name := range slices.Sorted(maps.Keys(o.Options)) {
		args = append(args, option(name, o.Options[name])...)
	}
	if o.Server == "" {
		args = append(args, d.manifest())
	}
	return args
}

// option is one setting of Puppet. One that is true or false takes no value there.
func option(name, value string) []string {
	switch value {
	case "true":
		return []string{"--" + name}
	case "false":
		return []string{"--no-" + name}
	}
	return []string{"--" + name, value}
}

// File is a file that a run is told something by.
type File struct {
	Path    string
	Content []byte
}

// Files are the files of a run below its directory.
func Files(o *op.Puppet, d Dir) ([]File, error) {
	var files []File
	if hasAttributes(o) {
		text, err := attributes(o)
		if err != nil {
			return nil, err
		}
		files = append(files, File{d.attributes(), text})
	}
	if o.Server == "" {
		files = append(files, File{d.manifest(), []byte(o.Manifest)})
	}
	return files, nil
}

// FactsFile is where external facts are found by every Facter since 1.7, in a directory
// that an image may lack.
const FactsFile = "/etc/facter/facts.d/herdbook-build.json"

// Facts is the content of FactsFile; nil if there are none.
func Facts(o *op.Puppet) ([]byte, error) {
	if len(o.Facts) == 0 {
		return nil, nil
	}
	text, err := json.Marshal(o.Facts)
	if err != nil {
		return nil, fmt.Errorf("write facts: %w", err)
	}
	return text, nil
}

func hasAttributes(o *op.Puppet) bool { return len(o.TrustedFacts) > 0 || !o.Challenge.IsZero() }

// challengePassword is the attribute of RFC 2985, 5.4.1.
const challengePassword = "1.2.840.113549.1.9.7"

// attributes is csr_attributes.yaml, in JSON, which is YAML.
func attributes(o *op.Puppet) ([]byte, error) {
	var file struct {
		Custom     map[string]string `json:"custom_attributes,omitempty"`
		Extensions map[string]string `json:"extension_requests,omitempty"`
	}
	file.Extensions = o.TrustedFacts
	if !o.Challenge.IsZero() {
		file.Custom = map[string]string{challengePassword: o.Challenge.Value}
	}
	text, err := json.Marshal(file)
	if err != nil {
		return nil, fmt.Errorf("write csr_attributes.yaml: %w", err)
	}
	return text, nil
}

// CreatedDirs are the directories that Puppet makes outside of Dir when they are not
// there, deepest first, whatever it is told.
var CreatedDirs = []string{
	"/etc/puppet/devices", "/etc/puppetlabs/puppet/devices",
	"/var/cache/puppet/public", "/var/cache/puppet/state", "/var/cache/puppet/devices", "/var/cache/puppet",
	"/opt/puppetlabs/puppet/public", "/opt/puppetlabs/puppet/cache/state", "/opt/puppetlabs/puppet/cache",
	"/etc/puppetlabs/code/environments/production", "/etc/puppet/code/environments/production",
	"/etc/puppet/code/environments", "/etc/puppet/code",
}
