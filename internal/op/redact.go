package op

import (
	"cmp"
	"slices"
	"strings"
)

// leastLine is how many bytes a line of a longer value must have to be blotted out:
// a bracket alone tells nothing, and stands everywhere.
const leastLine = 3

// Redact blots values out of a text; values of several lines, line by line.
func Redact(text string, values []string) string {
	var secrets []string
	for _, value := range values {
		several := strings.Contains(strings.TrimSpace(value), "\n")
		for line := range strings.SplitSeq(value, "\n") {
			// Stars alone look blotted out as they are.
			if line = strings.TrimRight(line, "\r"); strings.Trim(line, "*") != "" && (!several || len(strings.TrimSpace(line)) >= leastLine) {
				secrets = append(secrets, line)
			}
		}
	}
	// The longest first, or what it holds of another would leave its rest.
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, secret := range secrets {
		text = strings.ReplaceAll(text, secret, "***")
	}
	return text
}
