package puppet

import (
	"cmp"
	_ "embed"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"herdbook/internal/op"
)

// Outcome is what became of a step: the report of the run that brought the system to
// what it should be, or of the last one, and what is left of it.
type Outcome struct {
	Attempts int     `json:"attempts"`         // runs until one went well, or the last
	Report   *Report `json:"report,omitempty"` // nil if no run left one
	// Certificate is what became of the one that was made: one of the constants.
	Certificate string `json:"certificate,omitempty"`
	// Left is why the CA still has it, a sentence, for CertificateLeft.
	Left string `json:"left,omitempty"`
}

// What became of a certificate. There was none for "".
const (
	CertificateCleaned = "cleaned"   // the CA has revoked and forgotten it
	CertificateLeft    = "left"      // the CA still has it
	CertificateAsked   = "requested" // the CA has a request that it did not sign
	CertificateTaken   = "taken"     // the CA has another machine's of that name, which is not ours to clean
)

// Summary is a line about a run.
func (r Report) Summary() string {
	text := fmt.Sprintf("%s: %d of %d resources changed, %d failed, %.0f seconds", r.Status, r.Changed, r.Total, r.Failed, r.Seconds)
	if r.Version != "" {
		text += ", version " + r.Version
	}
	return text
}

// Revoke is a program in Ruby that has a CA revoke and forget a certificate, asked by
// that certificate, in one connection: a revoked one could not make another. Its
// arguments are those that Revocation gives.
//
//go:embed revoke.rb
var Revoke string

// Revocation are the arguments of Revoke: host and port of the CA, the name, and the
// files of the CA's certificate, the certificate and its key.
func Revocation(ca Authority, name string, d Dir) []string {
	return []string{ca.Host, ca.Port, name, path.Join(d.ssl(), "certs", "ca.pem"), d.Certificate(name), path.Join(d.ssl(), "private_keys", name+".pem")}
}

// Authority is where a CA is.
type Authority struct{ Host, Port string }

// AuthorityOf is where the step says that the CA is.
func AuthorityOf(o *op.Puppet) Authority {
	return Authority{cmp.Or(o.CAServer, o.Server), strconv.Itoa(cmp.Or(o.Port, op.DefaultPuppetPort))}
}

// downloaded is what Puppet since 6 says about where its certificate came from.
var downloaded = regexp.MustCompile(`Downloaded certificate for \S+ from (https://\S+)`)

// Authority is where the certificate came from, as the agent has said.
func (l *Log) Authority() (Authority, bool) {
	u, err := url.Parse(l.from)
	if err != nil || u.Hostname() == "" || u.Port() == "" {
		return Authority{}, false
	}
	return Authority{u.Hostname(), u.Port()}, true
}

// Interpreter is the Ruby that runs Puppet: that of a vendor's own, or the one that
// the program's first line names.
func Interpreter(program, firstLine string) string {
	if strings.HasPrefix(program, "/opt/puppetlabs/") {
		return "/opt/puppetlabs/puppet/bin/ruby"
	}
	fields := strings.Fields(strings.TrimPrefix(firstLine, "#!"))
	if strings.HasPrefix(firstLine, "#!") && len(fields) > 0 && path.Base(fields[0]) != "env" {
		return fields[0]
	}
	return "ruby"
}

// Rewrite returns the outcome with every text rewritten, and its lists at most as long
// as ParseReport makes them: what a guest gives need not be of ParseReport.
func (o Outcome) Rewrite(rewrite func(string) string) *Outcome {
	short := func(text string) string { return cut(rewrite(text), maxMessage) }
	o.Certificate, o.Left = short(o.Certificate), short(o.Left)
	if o.Report == nil {
		return &o
	}
	r := *o.Report
	r.Status, r.Version, r.Environment, r.Puppet = short(r.Status), short(r.Version), short(r.Environment), short(r.Puppet)
	for _, list := range []*[]Resource{&r.Slowest, &r.Failures, &r.Changes} {
		*list = slices.Clone((*list)[:min(len(*list), maxListed)])
		for i, resource := range *list {
			(*list)[i].Name, (*list)[i].File, (*list)[i].Message = short(resource.Name), short(resource.File), short(resource.Message)
		}
	}
	o.Report = &r
	return &o
}
