package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// openRC is where OpenRC notes the states of services: links in a directory for each state.
const openRC = "/run/openrc/"

// failedScripts are the services that OpenRC could not start, and the daemons that have
// ended since. Other inits that run scripts do not note how those ended.
func failedScripts() ([]string, error) {
	entries, err := os.ReadDir(openRC + "failed")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask OpenRC for failed services: %w", err)
	}
	var failed []string
	for _, e := range entries {
		failed = append(failed, e.Name())
	}
	// It ends with a status of its own where there is none.
	crashed, _ := output("rc-status", "--crashed", "--nocolor")
	failed = append(failed, crashedServices(crashed)...)
	slices.Sort(failed)
	return slices.Compact(failed), nil
}

// crashedServices reads what rc-status --crashed prints: lines such as
//
//	cron                            [  crashed  ]
func crashedServices(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 0 {
			names = append(names, fields[0])
		}
	}
	return names
}
