package puppet

import (
	"fmt"
	"regexp"
	"strings"
)

// Verdict is what a run came to.
type Verdict struct {
	Changed   bool   // something was changed
	Transient bool   // it may go well another time
	Waiting   bool   // the certificate request is not signed, which is transient
	Taken     bool   // the CA has a certificate of the name that is not ours
	Problem   string // what went wrong, a sentence; "" if nothing did
	Cure      string // what to do; may be empty
}

// The exit statuses of --detailed-exitcodes.
const (
	statusUnchanged = 0
	statusNotRun    = 1
	statusChanged   = 2
	statusFailed    = 4
	statusBoth      = 6 // some changed, some failed
)

// statusWordFailed is the status of a report of a run that failed.
const statusWordFailed = "failed"

// maxKept bounds the lines that are kept of what an agent says wrong.
const maxKept = 200

// Log takes what an agent says, line by line, and keeps what tells why a run failed.
// Its zero value is one that heard nothing.
type Log struct {
	errors []string
	behind bool   // the last line was part of an error
	from   string // the URL that the certificate came from
}

// Line takes one line.
func (l *Log) Line(line string) {
	line = strings.TrimSpace(line)
	if groups := downloaded.FindStringSubmatch(line); groups != nil {
		l.from = groups[1]
	}
	text, ok := strings.CutPrefix(line, "Error: ")
	if !ok {
		text, ok = strings.CutPrefix(line, "err: ")
	}
	switch {
	case strings.HasPrefix(text, "Facter: "): // of a fact, and no reason
		ok = false
	case l.behind && !levelled.MatchString(line):
		text, ok = line, true
	case unsigned.MatchString(line):
		text, ok = line, true
	}
	l.behind = ok
	if ok && text != "" && len(l.errors) < maxKept {
		l.errors = append(l.errors, cut(text, maxMessage))
	}
}

// levelled is a line that begins a new message; an error may have several lines.
var levelled = regexp.MustCompile(`^(?:Debug|Info|Notice|Warning|Error|Alert|Critical|Emergency): `)

// meaning is what a pattern of an error means.
type meaning struct {
	pattern   *regexp.Regexp // its first group, if it has one, is the message
	problem   string
	cure      string
	transient bool
}

var taken = regexp.MustCompile(`does not match (?:its|the agent's) private key`)

var unsigned = regexp.MustCompile(`might still need to sign this agent's certificate|no certificate found and waitforcert is disabled`)

// notRun are the reasons for which there was no run, the most telling first: one cause
// can have several words.
var notRun = []meaning{
	{pattern: taken,
		problem: "the CA has signed this certname already, with another key", cure: "give the step a certname of its own; if no other machine has it, clean it there: puppetserver ca clean --certname NAME"},
	{pattern: regexp.MustCompile(`certificate revoked`),
		problem: "the server says that the certificate is revoked", cure: "clean the certname at the CA: puppetserver ca clean --certname NAME"},
	{pattern: unsigned, transient: true,
		problem: "the certificate request waits to be signed", cure: "let the CA sign it itself (autosign), or sign it with the step's sign, or by hand: puppetserver ca sign --certname NAME"},
	{pattern: regexp.MustCompile(`(?:hostname|Server hostname) .*(?:does|did) not match.*|.*[Cc]ertificate (?:is )?not yet valid.*|.*certificate verify failed.*`),
		problem: "the server's certificate is not accepted", cure: "is server one of the certificate's names, and the machine's clock right?"},
	{pattern: regexp.MustCompile(`Error (50[234]|429) on SERVER|(?:code|was) (?:50[234]|429)\b|Error 500 on SERVER: Internal Server Error`), transient: true,
		problem: "the server is not ready"},
	{pattern: regexp.MustCompile(`Error 403 on SERVER:? *(.*)`),
		problem: "the server forbids it", cure: "look at its auth.conf"},
	{pattern: regexp.MustCompile(`Error 4\d\d on SERVER:? *(.*)`), problem: "the server refused"},
	{pattern: regexp.MustCompile(`Error 500 on SERVER:? *(?:Server Error: *)?(.*)`), problem: "the catalogue does not compile"},
	{pattern: regexp.MustCompile(`invalid option: (.*)|needless argument: (.*)`),
		problem: "Puppet does not know the option", cure: "look at options; true and false belong to settings that are switches only"},
	{pattern: regexp.MustCompile(`(?:Evaluation Error|Syntax error|Could not parse)[: ].*`), problem: "the manifest does not compile"},
	{pattern: regexp.MustCompile(`Could not find (?:a directory )?environment.*`), problem: "there is no such environment"},
	{pattern: regexp.MustCompile(`already in progress|Another puppet instance is already running`), transient: true,
		problem: "another run of Puppet was in progress"},
	{pattern: network, transient: true, problem: "the server cannot be reached", cure: "does the step have a network, and does the name of the server lead to it from there (hosts)?"},
}

// network are the words of Ruby, OpenSSL and Puppet for a connection that failed.
var network = regexp.MustCompile(`Connection refused|[Cc]onnection reset|getaddrinfo|Name or service not known|name resolution|No route to host|` +
	`Network is unreachable|execution expired|[Tt]imed out|[Tt]imeout|end of file reached|unexpected eof|Failed to open TCP connection|No more routes to`)

// request is an error of a resource that asked the server for something.
var request = regexp.MustCompile(`Request to https://|Could not retrieve (?:file metadata|information from environment)|Error 50[234] on SERVER`)

// Judge tells what an exit status means, beside what was said before it and the report
// that was left; nil if none was. A signal that killed it is 128 and its number, as of a
// shell. The status counts the resources that failed, and is 0 or 2 of a run that
// failed for another reason (Puppet::Transaction::Report#compute_status): the report
// tells.
func (l *Log) Judge(status int, r *Report) Verdict {
	v := l.judge(status)
	if v.Problem == "" && r != nil && r.Status == statusWordFailed {
		v = l.failed(v.Changed)
		if !v.Transient {
			v.Problem = "by its report the run has failed" + l.last()
		}
	}
	return v
}

// judge is Judge without a report.
func (l *Log) judge(status int) Verdict {
	switch status {
	case statusUnchanged:
		return Verdict{}
	case statusChanged:
		return Verdict{Changed: true}
	case statusFailed, statusBoth:
		return l.failed(status == statusBoth)
	case statusNotRun:
		return l.notRun()
	}
	if status > 128 {
		return Verdict{Problem: fmt.Sprintf("Puppet was killed by signal %d", status-128)}
	}
	return Verdict{Problem: fmt.Sprintf("Puppet ended with status %d%s", status, l.last())}
}

// failed is a run in which resources failed. Those to which the server did not answer
// may go well another time.
func (l *Log) failed(changed bool) Verdict {
	v := Verdict{Changed: changed, Problem: "resources failed"}
	for _, text := range l.errors {
		if request.MatchString(text) && (network.MatchString(text) || strings.Contains(text, " on SERVER")) && !strings.Contains(text, "Could not send report") {
			v.Transient, v.Problem = true, "resources failed for which the server was asked in vain"
		}
	}
	return v
}

// notRun is none at all.
func (l *Log) notRun() Verdict {
	for _, m := range notRun {
		for _, text := range l.errors {
			groups := m.pattern.FindStringSubmatch(text)
			if groups == nil {
				continue
			}
			detail := ""
			switch {
			case len(groups) == 1 && !m.transient && m.cure == "":
				detail = ": " + text
			case len(groups) > 1 && !m.transient:
				detail = ": " + strings.Join(groups[1:], "")
			}
			return Verdict{Transient: m.transient, Waiting: m.pattern == unsigned, Taken: m.pattern == taken, Problem: m.problem + detail, Cure: m.cure}
		}
	}
	return Verdict{Problem: "Puppet did not run" + l.last()}
}

// last is the last error, as the end of a sentence.
func (l *Log) last() string {
	if len(l.errors) == 0 {
		return ""
	}
	return ": " + l.errors[len(l.errors)-1]
}
