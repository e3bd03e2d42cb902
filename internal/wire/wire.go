// Package wire is the conversation between herdbook and its agent in a guest,
// both ends of it: JSON, one object a line, over one virtio-serial port. The
// agent says Hello; the host sends one Job; the agent sends Events and then
// exactly one Result. Silence is failure: the agent sends a heartbeat, and the
// host gives it up without one. Success is always a Result that says so. While it
// works the agent may Ask the host for something, one thing at a time.
//
// Bulk data does not pass here: files come on a disk of their own.
package wire

import (
	"fmt"
	"strings"
	"time"

	"herdbook/internal/cloudinit"
	"herdbook/internal/event"
	"herdbook/internal/identity"
	"herdbook/internal/mapper"
	"herdbook/internal/op"
	"herdbook/internal/puppet"
	"herdbook/internal/uuid"
)

// Port is the name of the virtio-serial port.
const Port = "org.herdbook.0"

// TerminalPort is the name of the port on which a shell talks to a person: bytes, as on
// any terminal's line.
const TerminalPort = "org.herdbook.terminal"

// TunnelPort is the name of the port that is a tunnel's line (package tunnel).
const TunnelPort = "org.herdbook.tunnel"

// Protocol is the version of the conversation.
const Protocol = 1

// The serial numbers by which the guest finds its disks.
const (
	RootDisk  = "root"  // the image
	FilesDisk = "files" // a raw disk that is a tar
	SeedDisk  = "seed"  // what cloud-init looks for
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
	Steps []Step        `json:"steps,omitempty"` // for the booted machine, which then is shut down
	// Stay is for a person: where a step has failed the agent waits for another job, which
	// is told without a Hello.
	Stay bool `json:"stay,omitempty"`
	// Terminal is what the person's terminal is (TERM), for Shell; "": linux.
	Terminal string `json:"terminal,omitempty"`
	// Clock has the system's clock set by the machine's: it stood still while the machine
	// was saved.
	Clock bool `json:"clock,omitempty"`
	// Boot is how long the booted system may take from its kernel's start to its rest; 0: no
	// limit.
	Boot time.Duration `json:"boot,omitempty"`
	// Gather what names the machine: of the quiet disk before any operation, or of the
	// booted system.
	Identity bool `json:"identity,omitempty"`
	// Environment is what programs of the guest have beyond the usual, NAME=value.
	Environment []string `json:"environment,omitempty"`
	Redact      []string `json:"redact,omitempty"`
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

// Step is one step in the booted machine.
type Step struct {
	Name      string        `json:"name"` // for people
	Operation op.Envelope   `json:"operation"`
	Timeout   time.Duration `json:"timeout,omitempty"` // from its first moment; 0: none
	// Visitor is the public key of who comes through the tunnel, as in authorized_keys; ""
	// if nobody does.
	Visitor string `json:"visitor,omitempty"`
}

// Test is what is asked of a booted machine, one Check after the other.
type Test struct {
	Checks []Check `json:"checks,omitempty"`
}

// Check is one test. The agent says when it begins with it, and how it ended.
type Check struct {
	Kind     string            `json:"kind"`    // boots, command, goss, port or service
	Timeout  time.Duration     `json:"timeout"` // after which it has failed
	Commands []op.CommandCheck `json:"commands,omitempty"`
	Port     *op.PortCheck     `json:"port,omitempty"`
	Service  *op.ServiceCheck  `json:"service,omitempty"`
	Goss     *op.GossCheck     `json:"goss,omitempty"`
}

// Event is one thing that the agent reports while it works.
type Event struct {
	Phase  string `json:"phase,omitempty"`  // what it does now
	Stream string `json:"stream,omitempty"` // stdout, stderr, agent or kernel, with Text
	Text   string `json:"text,omitempty"`   // one line
	Check  *Turn  `json:"check,omitempty"`
}

// Turn says that the agent begins with a check of the test, or has ended it.
type Turn struct {
	Index   int            `json:"index"`
	Verdict *event.Verdict `json:"verdict,omitempty"` // of one that has ended
}

// Result is how the job ended.
type Result struct {
	OK         bool            `json:"ok"`
	Error      string          `json:"error,omitempty"`     // a sentence, when not OK
	Operation  int             `json:"operation,omitempty"` // index of the one that failed, or of the step; NoStep for what came before the steps
	ExitStatus int             `json:"exit_status,omitempty"`
	Trimmed    uint64          `json:"trimmed,omitempty"` // bytes
	Puppet     *puppet.Outcome `json:"puppet,omitempty"`  // of a step of that kind
	// CloudInit is what became of a step of that kind.
	CloudInit *cloudinit.Outcome `json:"cloud_init,omitempty"`
	State     string             `json:"state,omitempty"`  // of systemd, after a boot
	Failed    []string           `json:"failed,omitempty"` // units
	Identity  []identity.Fact    `json:"identity,omitempty"`
}

// NoStep is the Operation of a Result that failed before the first step.
const NoStep = -1

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

// MaxOutput bounds the output of a test's command that is passed on, in bytes.
const MaxOutput = 64 << 10

// AskSign asks the host to let a CA sign the request of the certname Text. The answer's
// text is Done, or nothing where the step says no way to do it.
const (
	AskSign = "sign"
	Done    = "done"
)

// Ask is what the agent needs the host to do.
type Ask struct {
	What string `json:"what"`
	Text string `json:"text,omitempty"` // its meaning depends on What
}

// AskWindow asks for the size of the person's window, "ROWS COLUMNS". The answer comes
// when it is another one than Text.
const AskWindow = "window"

// Answer is what became of it.
type Answer struct {
	Text  string `json:"text,omitempty"`
	Error string `json:"error,omitempty"` // a sentence; "" if it was done
}

// AskPlay asks the host to play an Ansible step's playbook. The Text is a Stage.
const AskPlay = "play"

// Stage is what a playbook is played on.
type Stage struct {
	HostKey string `json:"host_key"` // of the SSH server at the tunnel's end, as in known_hosts
	Python  bool   `json:"python"`   // the guest has one
}

// message is one line from the agent: exactly one field is set.
type message struct {
	Hello  int     `json:"hello,omitempty"` // the protocol's version
	Beat   bool    `json:"beat,omitempty"`
	Event  *Event  `json:"event,omitempty"`
	Ask    *Ask    `json:"ask,omitempty"`
	Result *Result `json:"result,omitempty"`
}

const (
	maxJob     = 64 << 20       // bytes of the line that is a job
	maxMessage = 8 << 20        // bytes of a line from the agent
	maxResult  = maxMessage / 8 // bytes of all texts of a result or a verdict; in JSON a byte takes up to 6
	maxCases   = 4096           // of a verdict
)
