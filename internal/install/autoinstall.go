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
			{Path: "user-data", Mode: regular | 0o600, Data: []byte(i.Answers.Value)},
			{Path: "meta-data", Mode: regular | 0o644, Data: []byte("instance-id: herdbook\n")},
			{Path: "vendor-data", Mode: regular | 0o644, Data: []byte(vendorData)},
		},
		Log:     SerialLine,
		Reading: subiquityReading(),
	}
}

// subiquityReading follows subiquity's events, by their names in the journal and,
// without a person at the console, there, too.
func subiquityReading() Reading {
	event := func(names string) *regexp.Regexp {
		return regexp.MustCompile(`(?:start: )?subiquity/(?:` + names + `)`)
	}
	return Reading{
		Phases: []Phase{
			{Name: Media, Limit: 30 * time.Minute, Silence: 5 * time.Minute},
			{Network, event(`Network/|Mirror/|Early/|Refresh/`), 20 * time.Minute, 5 * time.Minute},
			{Partition, event(`Filesystem/|Install/install/curtin_install/run/cmd-install/stage-partitioning|Install/install/configure_apt`), 30 * time.Minute, 10 * time.Minute},
			{BaseSystem, event(`Install/install/curtin_install/run/cmd-install/stage-extract`), 60 * time.Minute, 20 * time.Minute},
			{BootLoader, event(`Install/install/curtin_install/run/cmd-install/stage-curthooks`), 60 * time.Minute, 20 * time.Minute},
			{Packages, event(`Install/install/postinstall`), 2 * time.Hour, 20 * time.Minute},
			{Finish, event(`Late/|Shutdown/`), 60 * time.Minute, 20 * time.Minute},
		},
		Questions: []*regexp.Regexp{
			regexp.MustCompile(`Continue with autoinstall\? \(yes\|no\) *$`),
			regexp.MustCompile(`^\S+ login: *$`),
		},
		Errors: []*regexp.Regexp{
			regexp.MustCompile(`subiquity_log\.\d+(?:\[\d+\])?: .*(?:Traceback|ERROR|AutoinstallError|ValidationError)`),
			regexp.MustCompile(`(?i)an error occurred\. press enter to start a shell`),
			regexp.MustCompile(`finish: subiquity/\S+: FAIL`),
			regexp.MustCompile(`Unable to find a (?:live file system|medium containing a live file system)`),
		},
		Done: regexp.MustCompile(`start: subiquity/Shutdown/shutdown|subiquity/Shutdown/shutdown: (?:mode|power)`),
		Idle: 5 * time.Minute,
	}
}
