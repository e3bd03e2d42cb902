package install

import (
	"regexp"
	"time"

	"herdbook/internal/definition"
)

// autoyast is YaST, started by linuxrc, of openSUSE Leap and SUSE Linux Enterprise
// up to 15. The options are linuxrc's.
func autoyast(i definition.Install, p Place) Session {
	source := setting("install", p.Tree)
	if p.Disc != "" {
		source = "install=cd:/"
	}
	return Session{
		CommandLine: commandLine(i, "autoyast=file:///autoinst.xml", source, "textmode=1", "linuxrc.log=/dev/ttyS1", setting("proxy", p.Proxy)),
		Files:       []File{{Path: "/autoinst.xml", Mode: regular | 0o600, Data: []byte(i.Answers.Value)}},
		Log:         SerialLine,
		Reading:     yastReading(),
	}
}

// yastReading follows linuxrc and the titles of YaST's screens.
func yastReading() Reading {
	return Reading{
		Phases: []Phase{
			{Name: Media, Limit: 60 * time.Minute, Silence: 10 * time.Minute, Fetches: true},
			{Name: Network, Begins: regexp.MustCompile(`(?:Setting up network|[Ll]oading [Ii]nstallation [Ss]ystem|Trying to connect)`), Limit: 60 * time.Minute, Silence: 20 * time.Minute, Fetches: true},
			{Name: Partition, Begins: regexp.MustCompile(`(?:Starting Installation|starting yast|Preparing Disks|Preparing disks|Perform Installation)`), Limit: 30 * time.Minute, Silence: 10 * time.Minute},
			{Name: Packages, Begins: regexp.MustCompile(`(?:Installing Packages|Installing packages|Package Installation)`), Limit: 3 * time.Hour, Silence: 20 * time.Minute},
			{Name: BootLoader, Begins: regexp.MustCompile(`(?:Saving bootloader configuration|Save bootloader|Installing boot loader)`), Limit: 30 * time.Minute, Silence: 15 * time.Minute},
			{Name: Finish, Begins: regexp.MustCompile(`(?:Finishing Basic Installation|Finish|Saving Configuration)`), Limit: 60 * time.Minute, Silence: 15 * time.Minute},
		},
		Progress: regexp.MustCompile(`(\d{1,3})%`),
		Questions: []*regexp.Regexp{
			regexp.MustCompile(`^> *$`), // linuxrc's line mode
			regexp.MustCompile(`(?i)\[(?:ok|yes|no|abort|continue)\] *(?:\[\w+\] *)*$`),
		},
		Errors: []*regexp.Regexp{
			regexp.MustCompile(`\*\*\* (?:.*(?:not find|failed|[Ee]rror).*)`),
			regexp.MustCompile(`An error occurred during the installation`),
			regexp.MustCompile(`YaST got signal \d+`),
			regexp.MustCompile(`install program exit code is -?[1-9]`),
		},
		// linuxrc logs how YaST has ended, and restarts or powers off without a word.
		Done: regexp.MustCompile(`install program exit code is 0\b`),
		Idle: 5 * time.Minute,
	}
}
