package event

import (
	"errors"
	"slices"
	"time"
)

// Outcome is how one case of a test ended.
type Outcome string

// The outcomes.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped" // it was asked for, and something of its own says that it is not to be
)

// Case is one thing that a test asked.
type Case struct {
	Name    string        `json:"name,omitempty"` // "" where the test asks but one
	Outcome Outcome       `json:"outcome"`
	Text    string        `json:"text,omitempty"`   // a sentence: why it did not pass
	Output  string        `json:"output,omitempty"` // what was said, without secrets
	Elapsed time.Duration `json:"elapsed,omitempty"`
}

// Verdict is how a test ended.
type Verdict struct {
	Time    time.Time     `json:"time,omitzero"` // of its end; set by the host
	Elapsed time.Duration `json:"elapsed,omitempty"`
	Text    string        `json:"text,omitempty"` // why it failed, where no case tells
	Hung    bool          `json:"hung,omitempty"` // it had to be ended at its deadline
	Cases   []Case        `json:"cases,omitempty"`
	Log     []string      `json:"log,omitempty"` // of one that failed: the last lines that were said; set by the host
}

// Passed tells whether nothing failed.
func (v Verdict) Passed() bool { return v.Err() == nil }

// Err joins everything that failed; nil if nothing did.
func (v Verdict) Err() error {
	var errs []error
	if v.Text != "" {
		errs = append(errs, errors.New(v.Text))
	}
	for _, c := range v.Cases {
		if c.Outcome == Failed {
			errs = append(errs, errors.New(c.Text))
		}
	}
	return errors.Join(errs...)
}

// Rewrite returns the verdict with every text rewritten.
func (v Verdict) Rewrite(rewrite func(string) string) Verdict {
	v.Text, v.Cases, v.Log = rewrite(v.Text), slices.Clone(v.Cases), slices.Clone(v.Log)
	for i := range v.Cases {
		c := &v.Cases[i]
		c.Name, c.Text, c.Output = rewrite(c.Name), rewrite(c.Text), rewrite(c.Output)
	}
	for i := range v.Log {
		v.Log[i] = rewrite(v.Log[i])
	}
	return v
}
