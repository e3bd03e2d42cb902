package puppet

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// Bounds of what is taken of a report, which comes from a guest.
const (
	MaxReport  = 32 << 20 // bytes of its text
	maxListed  = 20       // resources of a list
	maxName    = 300      // bytes of a name
	maxMessage = 1000     // bytes of a message

	leastSeconds = 0.001 // of a resource that is listed as slow
)

// Report is what a run did.
type Report struct {
	Status      string `json:"status"`            // changed, unchanged or failed
	Version     string `json:"version,omitempty"` // of the catalogue
	Environment string `json:"environment,omitempty"`
	Puppet      string `json:"puppet,omitempty"` // its version

	// Numbers of resources.
	Total     int `json:"total"`
	Changed   int `json:"changed"`
	Failed    int `json:"failed"`
	OutOfSync int `json:"out_of_sync"`
	Skipped   int `json:"skipped"`
	Restarted int `json:"restarted"`
	// Those of the type notify among the changed: they say something, and nothing is
	// changed by that.
	Notified int `json:"notified,omitempty"`

	Seconds float64 `json:"seconds"` // of the whole run

	Slowest  []Resource `json:"slowest,omitempty"`  // the slowest first
	Failures []Resource `json:"failures,omitempty"` // in the order of the report
	Changes  []Resource `json:"changes,omitempty"`  // likewise
}

// Changing is the number of resources that changed something.
func (r Report) Changing() int { return max(r.Changed-r.Notified, len(r.Changes)) }

// Resource is one resource of a report.
type Resource struct {
	Name    string  `json:"name"`           // such as File[/etc/motd]
	File    string  `json:"file,omitempty"` // of the manifest, on the server
	Line    int     `json:"line,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	Message string  `json:"message,omitempty"` // why it failed, or what was changed
}

// String is how a resource is named to people.
func (r Resource) String() string {
	var b strings.Builder
	b.WriteString(r.Name)
	if r.File != "" {
		fmt.Fprintf(&b, " (%s:%d)", r.File, r.Line)
	}
	if r.Message != "" {
		b.WriteString(": " + r.Message)
	}
	return b.String()
}

// ParseReport reads an untrusted last_run_report.yaml, as Puppet since 3.8 writes it.
// Ruby's tags mean nothing here.
func ParseReport(text []byte) (*Report, error) {
	if len(text) > MaxReport {
		return nil, fmt.Errorf("read Puppet's report: it has more than %d bytes", MaxReport)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, fmt.Errorf("read Puppet's report: %.300w", err)
	}
	if len(document.Content) == 0 || document.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("read Puppet's report: it is no mapping")
	}
	top := document.Content[0]
	r := &Report{
		Status: scalar(top, "status"), Version: scalar(top, "configuration_version"),
		Environment: scalar(top, "environment"), Puppet: scalar(top, "puppet_version"),
	}
	if !slices.Contains([]string{"changed", "unchanged", statusWordFailed}, r.Status) {
		return nil, fmt.Errorf("read Puppet's report: its status is %q", r.Status)
	}
	r.metrics(field(top, "metrics"))
	r.resources(field(top, "resource_statuses"), field(top, "logs"))
	return r, nil
}

// metrics takes the sums. Each metric has a list of [name, label, value].
func (r *Report) metrics(metrics *yaml.Node) {
	sums := map[string]*int{
		"total": &r.Total, "changed": &r.Changed, "failed": &r.Failed, "out_of_sync": &r.OutOfSync, "skipped": &r.Skipped, "restarted": &r.Restarted,
	}
	each(field(field(metrics, "resources"), "values"), func(name string, value float64) {
		if sum := sums[name]; sum != nil && value <= math.MaxInt32 {
			*sum = int(value)
		}
	})
	each(field(field(metrics, "time"), "values"), func(name string, value float64) {
		if name == "total" {
			r.Seconds = value
		}
	})
}

// each goes through the values of a metric, those that are numbers and not negative.
func each(values *yaml.Node, take func(name string, value float64)) {
	if values == nil || values.Kind != yaml.SequenceNode {
		return
	}
	for _, row := range values.Content {
		if row.Kind != yaml.SequenceNode || len(row.Content) != 3 {
			continue
		}
		if value, ok := number(row.Content[2]); ok {
			take(strings.TrimPrefix(row.Content[0].Value, ":"), value)
		}
	}
}

// resources takes the resources that failed, those that changed, and the slowest.
func (r *Report) resources(statuses, logs *yaml.Node) {
	if statuses == nil || statuses.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(statuses.Content); i += 2 {
		status := statuses.Content[i+1]
		resource := Resource{Name: cut(statuses.Content[i].Value, maxName), File: scalar(status, "file")}
		if line, ok := number(field(status, "line")); ok && line <= math.MaxInt32 {
			resource.Line = int(line)
		}
		if seconds, ok := number(field(status, "evaluation_time")); ok {
			resource.Seconds = seconds
		}
		if resource.Seconds >= leastSeconds {
			r.Slowest = append(r.Slowest, resource)
		}
		switch {
		case isTrue(status, "failed"), isTrue(status, "failed_to_restart"):
			resource.Message = cmp.Or(message(status, "failure"), logged(logs, resource.Name))
			r.Failures = append(r.Failures, resource)
		case isTrue(status, "changed") && strings.HasPrefix(resource.Name, "Notify["):
			r.Notified++
		case isTrue(status, "changed"):
			resource.Message = message(status, "success")
			r.Changes = append(r.Changes, resource)
		}
	}
	slices.SortStableFunc(r.Slowest, func(a, b Resource) int { return cmp.Compare(b.Seconds, a.Seconds) })
	for _, list := range []*[]Resource{&r.Slowest, &r.Failures, &r.Changes} {
		*list = slices.Clone((*list)[:min(len(*list), maxListed)])
	}
}

// message is that of a resource's first event with a status.
func message(status *yaml.Node, outcome string) string {
	events := field(status, "events")
	if events == nil || events.Kind != yaml.SequenceNode {
		return ""
	}
	for _, event := range events.Content {
		if scalar(event, "status") == outcome {
			return scalar(event, "message")
		}
	}
	return ""
}

// logged is the error that was logged of a resource: not every failure is an event.
func logged(logs *yaml.Node, name string) string {
	if logs == nil || logs.Kind != yaml.SequenceNode {
		return ""
	}
	for _, line := range logs.Content {
		if scalar(line, "level") == "err" && strings.HasSuffix(scalar(line, "source"), "/"+name) {
			return scalar(line, "message")
		}
	}
	return ""
}

// field is a value of a mapping; nil if it is not there.
func field(node *yaml.Node, name string) *yaml.Node {
	if node == nil || node.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			return node.Content[i+1]
		}
	}
	return nil
}

// scalar is the text of a value; "" if there is none.
func scalar(node *yaml.Node, name string) string {
	value := field(node, name)
	if value == nil || value.Kind != yaml.ScalarNode || value.Tag == "!!null" {
		return ""
	}
	return cut(strings.ToValidUTF8(value.Value, "�"), maxMessage)
}

func isTrue(node *yaml.Node, name string) bool { return scalar(node, name) == "true" }

// number is a number that is not negative.
func number(node *yaml.Node) (float64, bool) {
	if node == nil || node.Kind != yaml.ScalarNode {
		return 0, false
	}
	value, err := strconv.ParseFloat(node.Value, 64)
	return value, err == nil && value >= 0 && !math.IsInf(value, 0) // nor is NaN
}

// cut shortens a text to n bytes of whole characters.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}
