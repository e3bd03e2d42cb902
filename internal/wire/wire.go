// Package wire is the conversation between herdbook and its agent in a guest,
// both ends of it: JSON, one object a line, over one virtio-serial port. The
// agent says Hello; the host sends one Job; the agent sends Events and then
// exactly one Result. Silence is failure: the agent sends a heartbeat, and the
// host gives it up without one. Success is always a Result that says so.
//
// Bulk data does not pass here: files come on a disk of their own.
package wire

import (
	"fmt"
	"strings"

	"herdbook/internal/identity"
	"herdbook/internal/mapper"
	"herdbook/internal/op"
	"herdbook/internal/uuid"
)

// Port is the name of the virtio-serial port.
const Port = "org.herdbook.0"

// Protocol is the version of the conversation.
const Protocol = 1

// The serial numbers by which the guest finds its disks.
const (
	RootDisk  = "root"  // the image
	FilesDisk = "files" // a raw disk that is a tar
)

// ShellPhase is the phase that begins when the agent listens to a person.
const ShellPhase = "shell"

// Job is what the agent must do. It holds secrets in clear and must never be
// logged.
type Job struct {
	Devices    []mapper.Device `json:"devices,omitempty"` // to be made of the RootDisk, in this order, before all else
	Mounts     []Mount         `json:"mounts,omitempty"`  // the root first; for the workshop
	Network    bool            `json:"network,omitempty"`
	Files      bool            `json:"files,omitempty"` // there is a FilesDisk
	Grow       *Grow           `json:"grow,omitempty"`  // before the Operations
	Operations []op.Envelope   `json:"operations,omitempty"`
	// UUIDs are changed when the operations are done; Source is of the RootDisk.
	UUIDs []uuid.Change `json:"uuids,omitempty"`
	Trim  bool          `json:"trim,omitempty"`  // give free blocks back at the end
	Shell bool          `json:"shell,omitempty"` // an interactive shell on the console
	Test  *Test         `json:"test,omitempty"`  // for the booted machine
	// Gather what names the machine: of the quiet disk before any operation, or of the
	// booted system.
	Identity bool     `json:"identity,omitempty"`
	Redact   []string `json:"redact,omitempty"`
}

// Mount is a file system of the RootDisk.
type Mount struct {
	Partition int    `json:"partition"` // 0: the whole disk
	Dir       string `json:"dir"`
	Type      string `json:"type"`
	Options   string `json:"options,omitempty"`
	Device    string `json:"device,omitempty"` // name of one of Devices; then there is no partition
}

// Grow says which file system shall be as large as what it lies on.
type Grow struct {
	Dir      string        `json:"dir"`              // of one of Mounts
	Volume   string        `json:"volume,omitempty"` // group/volume: the logical volume that must grow first
	Physical mapper.Source `json:"physical"`         // the physical volume that must grow before that
}

// Test is what is asked of a booted machine.
type Test struct {
	Commands []Command `json:"commands,omitempty"`
}

// Command is one command of a test, run by /bin/sh.
type Command struct {
	Name string `json:"name"`
	Run  string `json:"run"`
}

// Event is one thing that the agent reports while it works.
type Event struct {
	Phase  string `json:"phase,omitempty"`  // what it does now
	Stream string `json:"stream,omitempty"` // stdout, stderr or agent, with Text
	Text   string `json:"text,omitempty"`   // one line
}

// Result is how the job ended.
type Result struct {
	OK         bool            `json:"ok"`
	Error      string          `json:"error,omitempty"`     // a sentence, when not OK
	Operation  int             `json:"operation,omitempty"` // index of the one that failed
	ExitStatus int             `json:"exit_status,omitempty"`
	Trimmed    uint64          `json:"trimmed,omitempty"` // bytes
	State      string          `json:"state,omitempty"`   // of systemd, after a boot
	Failed     []string        `json:"failed,omitempty"`  // units
	Commands   []CommandResult `json:"commands,omitempty"`
	Identity   []identity.Fact `json:"identity,omitempty"`
}

// CheckBoot tells what is wrong with the state that a booted system came to.
func (r Result) CheckBoot() error {
	if len(r.Failed) > 0 {
		return fmt.Errorf("failed units: %s", strings.Join(r.Failed, ", "))
	}
	if r.State != "running" && r.State != "degraded" {
		return fmt.Errorf("the system came to the state %q", r.State)
	}
	return nil
}

// CommandResult is how one command of a test ended.
type CommandResult struct {
	Name       string `json:"name"`
	Output     string `json:"output"` // standard output and error, cut at MaxOutput
	ExitStatus int    `json:"exit_status"`
}

// MaxOutput bounds the output of a test's command that is passed on, in bytes.
const MaxOutput = 64 << 10

// message is one line from the agent: exactly one field is set.
type message struct {
	Hello  int     `json:"hello,omitempty"` // the protocol's version
	Beat   bool    `json:"beat,omitempty"`
	Event  *Event  `json:"event,omitempty"`
	Result *Result `json:"result,omitempty"`
}

const (
	maxJob     = 64 << 20       // bytes of the line that is a job
	maxMessage = 8 << 20        // bytes of a line from the agent
	maxResult  = maxMessage / 8 // bytes of all texts of a result; in JSON a byte takes up to 6
)
