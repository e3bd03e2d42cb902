package agent

import (
	"slices"
	"testing"
)

func TestCrashedServices(t *testing.T) {
	for text, want := range map[string][]string{
		"":   nil,
		"\n": nil,
		" cron                                                             [  crashed  ]\n ssh [ crashed ]": {"cron", "ssh"},
	} {
		if got := crashedServices(text); !slices.Equal(got, want) {
			t.Errorf("%q: %q", text, got)
		}
	}
}
