// Package install knows the distributions' own installers: one file for each. A
// driver is a pure function from what the definition says to a Session: what is
// laid into the initrd, the kernel's command line, the phases by which the
// installer's words are read, and the signs of its success and failure. Finding
// the installer is left to package source, running it to package build.
package install

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"herdbook/internal/definition"
)

// Session is one run of an installer.
type Session struct {
	CommandLine string  // of the kernel
	Files       []File  // laid into the initrd
	Seed        []File  // of a second disc, by the label SeedVolume; nil for none
	Log         Channel // where the installer's own log arrives
	Reading     Reading // how its words are to be understood
}

// SeedVolume is the label by which cloud-init finds the disc of a NoCloud seed.
const SeedVolume = "cidata"

// Channel is how an installer's log leaves the machine.
type Channel string

// The channels.
const (
	SerialLine Channel = "ttyS1"                            // the second serial line
	VirtioPort Channel = "org.fedoraproject.anaconda.log.0" // the virtio-serial port that Anaconda looks for
)

// File is something laid into an initrd or onto a seed. It belongs to root.
type File struct {
	Path  string // in the initrd absolute, without links on the way
	Mode  uint32 // permissions and type, as in stat(2)
	Data  []byte // of a regular file; the target of a symbolic link
	From  string // in place of Data: a file of the host, with Input's digest
	Input definition.Input
}

// Place is what is known of a session's surroundings when it begins, and changes
// nothing of what comes out of it.
type Place struct {
	Tree  string // the address at which the guest finds the installer's tree; "" if it has none
	Disc  string // volume name of the ISO image in the drive; "" if there is none
	Proxy string // for packages; "" for none
}

// New makes the session of an installation.
func New(i definition.Install, p Place) (Session, error) {
	drivers := map[string]func(definition.Install, Place) Session{
		"preseed": preseed, "kickstart": kickstart, "autoinstall": autoinstall, "autoyast": autoyast,
	}
	driver := drivers[i.Kind]
	if driver == nil {
		return Session{}, fmt.Errorf("there is no installer %q", i.Kind)
	}
	s := driver(i, p)
	for _, f := range i.Files {
		for _, input := range f.Inputs {
			s.Files = append(s.Files, laid(f.Path, input))
		}
	}
	return s, nil
}

// Version names how a driver works, for keys: it is raised when the same answers
// could come to another disk.
func Version(kind string) string { return kind + " 1" }

// console is where every installer shall speak, and the kernel only of what went
// wrong: a serial line is slow. A kernel that gives up restarts the machine, which
// ends it; and it shall not give up because the timer of an emulated machine ticks
// late where the host has much to do.
const console = "console=ttyS0,115200 quiet panic=-1 no_timer_check"

// commandLine joins what herdbook says to the kernel with what the user adds.
func commandLine(i definition.Install, words ...string) string {
	all := []string{console}
	for _, word := range append(words, i.Arguments...) {
		if word != "" {
			all = append(all, word)
		}
	}
	return strings.Join(all, " ")
}

// doneWords is what the installers that run a script of ours at their end say by it.
const doneWords = "herdbook: the installation is complete"

// setting is name=value, or nothing where there is no value.
func setting(name, value string) string {
	if value == "" {
		return ""
	}
	return name + "=" + value
}

// The names of the phases.
const (
	Media      = "media"
	Network    = "network"
	Partition  = "partition"
	BaseSystem = "base system"
	Packages   = "packages"
	BootLoader = "boot loader"
	Finish     = "finish"
)

// Phase is one part of an installation. Its times hold for a processor that runs
// the guest itself; NewMonitor is told the pace of others.
type Phase struct {
	Name    string
	Begins  *regexp.Regexp // on a line of log or console; nil for the first
	Limit   time.Duration  // that it may take in all
	Silence time.Duration  // that it may work without a word
	// Fetches says that it can wait for a slow network without a word: to do
	// nothing is then no sign of anything.
	Fetches bool
}

// Reading is how an installer's words are understood. Patterns see one line, of
// the log or of the console.
type Reading struct {
	Phases     []Phase
	Progress   *regexp.Regexp   // how far the present phase is, in per cent or as "N/M"
	Questions  []*regexp.Regexp // the console's unfinished line when it waits for a person
	Titles     *regexp.Regexp   // the line that a question's text begins with; nil: no text but the prompt
	Errors     []*regexp.Regexp // what the installer says when it gives up
	Complaints []*regexp.Regexp // what explains a failure that comes later
	Done       *regexp.Regexp   // its last words, after which all is on the disk
	// Idle is for how long a machine may do nothing at all, without a word, before
	// it is taken to wait for a person. It holds at any pace: an emulated processor
	// that works is busy, too.
	Idle time.Duration
}
