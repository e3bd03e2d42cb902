package install

import (
	"regexp"
	"strings"
	"time"

	"herdbook/internal/definition"
)

// marks are scripts behind the answers that say where the installation is: most
// words of Anaconda's own are translated into the language that it installs, and
// some editions have no last ones. They run behind the user's own scripts.
const marks = `
%pre
echo "` + begins + `" > /dev/console
%end
%post --nochroot
echo "` + doneWords + `" > /dev/console
%end
`

// begins is what Anaconda says when it has read its answers.
const begins = "herdbook: the installation begins"

// kickstart is Anaconda, of Fedora, Red Hat and those that descend from them. In
// command-line mode it asks nothing: a question is a failure of its own making.
// Its options are those of Anaconda's boot-options document; the port for its log
// is told there, too.
func kickstart(i definition.Install, p Place) Session {
	// proxy= is for what dracut fetches, the installer itself.
	words := []string{"inst.ks=file:/ks.cfg", "inst.cmdline", "inst.nosave=all_ks", setting("inst.proxy", p.Proxy), setting("proxy", p.Proxy)}
	switch {
	case p.Disc != "":
		// Spaces would end the word; udev writes them like this, too.
		words = append(words, "inst.stage2=hd:LABEL="+strings.ReplaceAll(p.Disc, " ", `\x20`))
	case p.Tree != "":
		words = append(words, "inst.repo="+p.Tree)
	}
	return Session{
		CommandLine: commandLine(i, words...),
		Files:       []File{{Path: "/ks.cfg", Mode: regular | 0o600, Data: []byte(i.Answers.Value + marks)}},
		Log:         VirtioPort,
		Reading:     anacondaReading(),
	}
}

// anacondaReading follows the messages of Anaconda's steps, which stand on the
// console and in its log, and the marks. A phase whose first words are not known,
// being translated, is a part of the one before: so the limits are wide.
func anacondaReading() Reading {
	return Reading{
		Phases: []Phase{
			// The second stage is some 800 MB, fetched without a word.
			{Name: Media, Limit: 60 * time.Minute, Silence: 30 * time.Minute, Fetches: true},
			{Name: Network, Begins: regexp.MustCompile(`(?i)(?:Starting installer, one moment|Starting automated install|anaconda [0-9.-]+\S* for .* started)`), Limit: 30 * time.Minute, Silence: 10 * time.Minute, Fetches: true},
			{Name: Partition, Begins: regexp.MustCompile(`(?:` + begins + `|Configuring storage|Creating (?:disklabel|\S+) on |Setting up the installation environment)`), Limit: 90 * time.Minute, Silence: 20 * time.Minute, Fetches: true},
			{Name: BaseSystem, Begins: regexp.MustCompile(`(?:Starting package installation process|Downloading packages|Preparing transaction from installation source)`), Limit: 90 * time.Minute, Silence: 20 * time.Minute, Fetches: true},
			{Name: Packages, Begins: regexp.MustCompile(packageOf), Limit: 3 * time.Hour, Silence: 20 * time.Minute},
			{Name: BootLoader, Begins: regexp.MustCompile(`Installing boot ?loader`), Limit: 30 * time.Minute, Silence: 15 * time.Minute},
			{Name: Finish, Begins: regexp.MustCompile(`(?:Configuring installed system|Writing network configuration|Creating users|Generating initramfs|Running post-installation scripts)`), Limit: 90 * time.Minute, Silence: 20 * time.Minute},
		},
		Progress: regexp.MustCompile(packageOf),
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
			regexp.MustCompile(`(?i)entering emergency mode|you are in emergency mode|FATAL: Failed to find a root filesystem`),
		},
		// It goes on after that, and often with success.
		Complaints: []*regexp.Regexp{regexp.MustCompile(`dracut-initqueue.*timeout, still waiting`)},
		Done:       regexp.MustCompile(doneWords),
		Idle:       3 * time.Minute,
	}
}

// packageOf is a package that is being installed, the how manieth of how many; the
// words around it are translated.
const packageOf = `\S+\.(?:noarch|x86_64|i[3-6]86)\b.* \((\d+)/(\d+)\)|Installing \S+ \((\d+)/(\d+)\)`
