package install

import (
	"regexp"
	"strings"
	"time"

	"herdbook/internal/definition"
)

// kickstart is Anaconda, of Fedora, Red Hat and those that descend from them. In
// command-line mode it asks nothing: a question is a failure of its own making.
// Its options are those of Anaconda's boot-options document; the port for its log
// is told there, too.
func kickstart(i definition.Install, p Place) Session {
	words := []string{"inst.ks=file:/ks.cfg", "inst.cmdline", "inst.nosave=all_ks", setting("inst.proxy", p.Proxy)}
	switch {
	case p.Disc != "":
		// Spaces would end the word; udev writes them like this, too.
		words = append(words, "inst.stage2=hd:LABEL="+strings.ReplaceAll(p.Disc, " ", `\x20`))
	case p.Tree != "":
		words = append(words, "inst.repo="+p.Tree)
	}
	return Session{
		CommandLine: commandLine(i, words...),
		Files:       []File{{Path: "/ks.cfg", Mode: regular | 0o600, Data: []byte(i.Answers.Value)}},
		Log:         VirtioPort,
		Reading:     anacondaReading(),
	}
}

// anacondaReading follows the messages of Anaconda's steps, which stand on the
// console and in its log.
func anacondaReading() Reading {
	return Reading{
		Phases: []Phase{
			{Name: Media, Limit: 20 * time.Minute, Silence: 5 * time.Minute},
			{Network, regexp.MustCompile(`(?i)(?:Starting installer, one moment|Starting automated install|anaconda [0-9.-]+\S* for .* started)`), 15 * time.Minute, 5 * time.Minute},
			{Partition, regexp.MustCompile(`(?:Configuring storage|Creating (?:disklabel|\S+) on |Setting up the installation environment)`), 20 * time.Minute, 10 * time.Minute},
			{BaseSystem, regexp.MustCompile(`(?:Starting package installation process|Downloading packages|Preparing transaction from installation source)`), 90 * time.Minute, 20 * time.Minute},
			{Packages, regexp.MustCompile(`Installing \S+ \(\d+/\d+\)`), 3 * time.Hour, 20 * time.Minute},
			{BootLoader, regexp.MustCompile(`Installing boot ?loader`), 30 * time.Minute, 15 * time.Minute},
			{Finish, regexp.MustCompile(`(?:Configuring installed system|Writing network configuration|Creating users|Generating initramfs|Running post-installation scripts)`), 90 * time.Minute, 20 * time.Minute},
		},
		Progress: regexp.MustCompile(`Installing \S+ \((\d+)/(\d+)\)`),
		Questions: []*regexp.Regexp{
			regexp.MustCompile(`(?i)press (?:the )?\[?(?:enter|return)\]?[^:]*(?:to|for) [^:]*:? *$`),
			regexp.MustCompile(`Please (?:make (?:your|a) (?:choice|selection)|respond)[^:]*: *$`),
			regexp.MustCompile(`^(?:dracut|sh-[0-9.]+|bash-[0-9.]+|\[anaconda root@\S+ \S+\])[:/]*[#$] *$`),
		},
		Errors: []*regexp.Regexp{
			regexp.MustCompile(`The installer will now terminate`),
			regexp.MustCompile(`(?:Running in cmdline mode, no interactive debugging|Can't have a question in command line mode)`),
			regexp.MustCompile(`(?i)An unknown error has occured|anaconda.*: Traceback \(most recent call last\)`),
			regexp.MustCompile(`The following (?:mandatory spokes|error occurred)`),
			regexp.MustCompile(`(?i)entering emergency mode|dracut-initqueue.*timeout, still waiting|FATAL: Failed to find a root filesystem`),
		},
		Done: regexp.MustCompile(`Installation complete`),
		Idle: 3 * time.Minute,
	}
}
