package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"herdbook/internal/event"
	"herdbook/internal/op"
)

// mostGoss bounds what goss says that is read, in bytes: some 5,000 results.
const mostGoss = 8 << 20

// askGoss has goss answer a gossfile. Each of its results is a case.
func askGoss(ctx context.Context, c op.GossCheck, redact []string) event.Verdict {
	program, err := findGoss(c)
	if err != nil {
		return event.Verdict{Text: err.Error()}
	}
	args := []string{program, "--gossfile", c.File}
	if c.Vars != "" {
		args = append(args, "--vars", c.Vars)
	}
	a := answerOf(ctx, append(args, "validate", "--format", "json", "--no-color"), run{dir: filepath.Dir(c.File), most: mostGoss, only: true})
	if a.err != nil {
		return event.Verdict{Text: fmt.Sprintf("goss: %v; it said: %s", a.err, short(a.errors, redact))}
	}
	cases, err := readGoss(a.output)
	v := event.Verdict{Cases: cases}
	// goss ends with 1 if a result failed, and with others if it could not ask at all.
	if failed := v.Err() != nil; err != nil || failed != (a.status != 0) {
		if err == nil {
			err = errors.New("its results say otherwise")
		}
		v.Text = fmt.Sprintf("goss ended with status %d: %v; it said: %s", a.status, err, short(a.errors+a.output, redact))
	}
	return v
}

// findGoss finds the program that is to be taken.
func findGoss(c op.GossCheck) (string, error) {
	if c.Own || c.Program == "" {
		if own, err := exec.LookPath("goss"); err == nil {
			return own, nil
		}
	}
	if c.Program == "" {
		return "", errors.New("the guest has no goss, and this host has none to lend: install it in the image, put it into this host's PATH, or name one by goss = \"PATH\"")
	}
	if _, err := os.Stat(c.Program); err != nil {
		return "", fmt.Errorf("goss was not laid down: %w", err)
	}
	return c.Program, nil
}

// gossResult is a result as goss writes it, of its versions 0.3 and 0.4.
type gossResult struct {
	Type       string        `json:"resource-type"`
	ID         string        `json:"resource-id"`
	Property   string        `json:"property"`
	Title      string        `json:"title"`
	Duration   time.Duration `json:"duration"` // ns
	Skipped    bool          `json:"skipped"`
	Successful bool          `json:"successful"`
	Line       string        `json:"summary-line"`
	Compact    string        `json:"summary-line-compact"` // since 0.4
}

// readGoss reads what goss says with --format json.
func readGoss(text string) ([]event.Case, error) {
	var said struct {
		Results []gossResult `json:"results"`
	}
	if err := json.Unmarshal([]byte(text), &said); err != nil {
		return nil, fmt.Errorf("read its results: %w", err)
	}
	if len(said.Results) == 0 {
		return nil, errors.New("it has no results: the gossfile asks nothing")
	}
	var cases []event.Case
	for _, r := range said.Results {
		c := event.Case{Name: fmt.Sprintf("%s: %s: %s", r.Type, r.ID, r.Property), Outcome: event.Passed, Elapsed: max(0, r.Duration)}
		if r.Title != "" {
			c.Name = r.Title + ": " + c.Name
		}
		if c.Text = r.Compact; c.Text == "" {
			c.Text = strings.Join(strings.Fields(r.Line), " ")
		}
		if c.Text == "" {
			c.Text = c.Name
		}
		switch {
		case r.Skipped:
			c.Outcome = event.Skipped
		case !r.Successful:
			c.Outcome = event.Failed
		default:
			c.Text = ""
		}
		cases = append(cases, c)
	}
	return cases, nil
}
