package install

import (
	"regexp"
	"time"

	"herdbook/internal/definition"
)

// vendorData is the part of the seed that is herdbook's: it follows the journal on
// the second serial line. cloud-init merges it below the user's own data.
const vendorData = `#cloud-config
bootcmd:
  - [systemd-run, --no-block, sh, -c, "journalctl --follow --no-tail --output=short > /dev/ttyS1"]
`

// autoinstall is subiquity, on the disc of an Ubuntu live server from 20.04 on. Its
// answers lie on a second disc, the seed of cloud-init's NoCloud; the word
// autoinstall keeps it from asking whether it may begin.
func autoinstall(i definition.Install, _ Place) Session {
	return Session{
		CommandLine: commandLine(i, "autoinstall", "ds=nocloud"),
		Seed: []File{
			{Path: "user-data", Mode: regular | 0o644, Data: []byte(i.Answers.Value)},
			{Path: "meta-data", Mode: regular | 0o644, Data: []byte("instance-id: herdbook\n")},
			{Path: "vendor-data", Mode: regular | 0o644, Data: []byte(vendorData)},
		},
		Log:     SerialLine,
		Reading: subiquityReading(),
	}
}

// subiquityReading follows subiquity's events, which stand in the journal and,
// without a person at the console, there, too: by their names, or by what they are
// described as, since its releases differ in what they tell. Every part of it loads
// its data at the beginning, which begins nothing.
func subiquityReading() Reading {
	event := func(words string) *regexp.Regexp { return regexp.MustCompile(words) }
	return Reading{
		Phases: []Phase{
			{Name: Media, Limit: 30 * time.Minute, Silence: 5 * time.Minute},
			{Name: Network, Begins: event(`subiquity/(?:Early/run|Network/(?:apply|wait)|Mirror/(?:apply|cmd|check|run)|Refresh/(?:apply|check))`), Limit: 30 * time.Minute, Silence: 10 * time.Minute, Fetches: true},
			{Name: Partition, Begins: event(`subiquity/Filesystem/(?:apply|guided|convert)|cmd-install/stage-partitioning|executing curtin install partitioning step`), Limit: 30 * time.Minute, Silence: 10 * time.Minute},
			{Name: BaseSystem, Begins: event(`cmd-install/stage-extract|executing curtin install extract step`), Limit: 60 * time.Minute, Silence: 20 * time.Minute},
			{Name: BootLoader, Begins: event(`cmd-install/stage-curthooks|executing curtin install curthooks step`), Limit: 60 * time.Minute, Silence: 20 * time.Minute, Fetches: true},
			{Name: Packages, Begins: event(`subiquity/Install/install/postinstall|: final system configuration`), Limit: 2 * time.Hour, Silence: 20 * time.Minute, Fetches: true},
			{Name: Finish, Begins: event(`subiquity/(?:Late/run|Shutdown/(?:run|copy|shutdown))`), Limit: 60 * time.Minute, Silence: 20 * time.Minute},
		},
		Questions: []*regexp.Regexp{
			regexp.MustCompile(`Continue with autoinstall\? \(yes\|no\) *$`),
			regexp.MustCompile(`^\S+ login: *$`),
		},
		Errors: []*regexp.Regexp{
			regexp.MustCompile(`(?i)an error occurred\. press enter to start a shell`),
			regexp.MustCompile(`Unable to find a (?:live file system|medium containing a live file system)`),
		},
		// What its commands say, and they may say that of what does no harm.
		Complaints: []*regexp.Regexp{
			regexp.MustCompile(`subiquity_log\.\d+(?:\[\d+\])?: .*(?:Traceback|ERROR|AutoinstallError|ValidationError)`),
		},
		Done: regexp.MustCompile(`subiquity/Shutdown/shutdown\b|subiquity_event\S*: +mode=(?:POWEROFF|REBOOT)`),
		Idle: 5 * time.Minute,
	}
}
