package machine

import (
	"testing"
	"time"
)

func TestProcessorTime(t *testing.T) {
	const rest = " S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 3 0 12345 0 0"
	for stat, want := range map[string]time.Duration{
		"42 (qemu-system-x86)" + rest:           2 * time.Second,
		"42 (a) b (c d)" + rest:                 2 * time.Second,
		"42 (x) S 1 2":                          -1,
		"":                                      -1,
		"42 (x) S 1 2 3 4 5 6 7 8 9 10 many 50": -1,
	} {
		got, err := processorTime([]byte(stat))
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %v, %v", stat, got, err)
		}
	}
}
