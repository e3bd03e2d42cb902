// Package cloudinit is cloud-init from outside: the files of a NoCloud seed, and what
// cloud-init's own status and log tell of a run.
package cloudinit

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"herdbook/internal/op"
)

// Volume is the label by which cloud-init knows a seed.
const Volume = "cidata"

// Where cloud-init tells of itself.
const (
	StatusPath = "/run/cloud-init/status.json"
	LogPath    = "/var/log/cloud-init.log"
	OutputPath = "/var/log/cloud-init-output.log"
)

// Seed are the files of the seed by their names.
func Seed(o *op.CloudInit) map[string][]byte {
	files := map[string][]byte{"user-data": []byte(o.UserData.Value), "meta-data": []byte(cmp.Or(o.MetaData, op.DefaultMetaData))}
	if o.NetworkConfig != "" {
		files["network-config"] = []byte(o.NetworkConfig)
	}
	return files
}

// Outcome is what became of a run.
type Outcome struct {
	Datasource string   `json:"datasource"`
	Errors     []string `json:"errors,omitempty"`
	Warnings   []string `json:"warnings,omitempty"`
}

// The bounds of an outcome.
const (
	maxStatus   = 4 << 20 // bytes
	maxMessages = 50
	maxMessage  = 2 << 10 // bytes
)

// Read makes an outcome of the content of StatusPath and LogPath. Versions from 23.4 on
// tell warnings in the status, as recoverable errors; of older ones they are in the log
// alone.
func Read(status, log []byte) (Outcome, error) {
	var o Outcome
	if len(status) > maxStatus {
		return o, fmt.Errorf("read cloud-init's status: it has more than %d bytes", maxStatus)
	}
	var file struct {
		V1 map[string]json.RawMessage `json:"v1"`
	}
	if err := json.Unmarshal(status, &file); err != nil {
		return o, fmt.Errorf("read cloud-init's status: %w", err)
	}
	inStatus := false
	for _, name := range slices.Sorted(maps.Keys(file.V1)) {
		var stage struct {
			Errors      []string            `json:"errors"`
			Recoverable map[string][]string `json:"recoverable_errors"`
		}
		if name == "datasource" {
			var datasource string
			if json.Unmarshal(file.V1[name], &datasource) == nil { // null if there was none
				o.Datasource = plain(datasource)
			}
			continue
		}
		if json.Unmarshal(file.V1[name], &stage) != nil {
			continue // what is no stage
		}
		o.Errors = take(o.Errors, stage.Errors)
		inStatus = inStatus || stage.Recoverable != nil
		for _, level := range slices.Sorted(maps.Keys(stage.Recoverable)) {
			o.Warnings = take(o.Warnings, stage.Recoverable[level])
		}
	}
	if !inStatus {
		o.Warnings = take(o.Warnings, logged(log))
	}
	return o, nil
}

// logged are the messages of a log from warnings upward.
func logged(log []byte) []string {
	var list []string
	scanner := bufio.NewScanner(bytes.NewReader(log))
	scanner.Buffer(nil, maxStatus)
	for scanner.Scan() && len(list) < maxMessages {
		for _, level := range []string{"[WARNING]: ", "[ERROR]: ", "[CRITICAL]: "} {
			if _, text, ok := strings.Cut(scanner.Text(), level); ok {
				list = append(list, text)
			}
		}
	}
	return list
}

// take adds messages to a list, each once.
func take(list, messages []string) []string {
	for _, m := range messages {
		if m = plain(m); m != "" && len(list) < maxMessages && !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	return list
}

// plain makes a text one line that a terminal can be shown.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "�"))
	text = strings.TrimSpace(text)
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}

// Check tells what is wrong with a run whose "cloud-init status" ended with a status.
func (o Outcome) Check(status int, allowWarnings bool) error {
	switch {
	case len(o.Errors) > 0:
		return fmt.Errorf("cloud-init failed:\n  %s", strings.Join(slices.Concat(o.Errors, o.Warnings), "\n  "))
	case !strings.Contains(o.Datasource, "NoCloud"):
		return fmt.Errorf("cloud-init took its data from %q and not from the step's: does datasource_list in the image's /etc/cloud leave NoCloud out?", o.Datasource)
	case len(o.Warnings) > 0 && !allowWarnings:
		return fmt.Errorf("cloud-init warns (allow_warnings = true lets it):\n  %s", strings.Join(o.Warnings, "\n  "))
	case status != 0 && (status != degraded || !allowWarnings):
		return fmt.Errorf("cloud-init status ended with status %d", status)
	}
	return nil
}

// degraded is the status of "cloud-init status" where something was wrong that did not end
// the run.
const degraded = 2

// ErrDisabled says that cloud-init does not run at all.
var ErrDisabled = errors.New("cloud-init is in the image and did not run: is it disabled, by /etc/cloud/cloud-init.disabled or by its units?")

// Rendered are patterns of the files that cloud-init writes the boot's network into.
var Rendered = []string{
	"/etc/netplan/50-cloud-init.yaml",
	"/etc/network/interfaces.d/50-cloud-init*",
	"/etc/systemd/network/10-cloud-init-*",
	"/etc/systemd/network/*.network.d/10-cloud-init-*",
	"/etc/NetworkManager/system-connections/cloud-init-*",
	"/etc/NetworkManager/conf.d/*-cloud-init.conf",
	"/etc/sysconfig/network-scripts/ifcfg-*",
	"/etc/udev/rules.d/70-persistent-net.rules",
}
