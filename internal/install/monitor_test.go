package install

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/definition"
	"herdbook/internal/event"
)

// stage is an installer's monitor and a clock for it.
type stage struct {
	*Monitor
	t    *testing.T
	now  time.Time
	last *Failure
}

func perform(t *testing.T, kind string, pace int) *stage {
	t.Helper()
	s, err := New(definition.Install{Kind: kind}, Place{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &stage{Monitor: NewMonitor(s.Reading, pace, now), t: t, now: now}
}

// say lets a second pass before each line of the console; one that begins with
// "log " is of the installer's own log.
func (s *stage) say(lines ...string) *stage {
	for _, line := range lines {
		s.now = s.now.Add(time.Second)
		stream := event.Console
		if text, ok := strings.CutPrefix(line, "log "); ok {
			stream, line = event.System, text
		}
		s.keep(s.Line(stream, line, s.now))
	}
	return s
}

// wait lets time pass, a look at the machine every second, until it fails.
func (s *stage) wait(d time.Duration, unfinished string, busy bool) *stage {
	for end := s.now.Add(d); s.now.Before(end) && s.last == nil; {
		s.now = s.now.Add(time.Second)
		s.keep(s.Watch(unfinished, busy, s.now))
	}
	return s
}

func (s *stage) keep(f *Failure) {
	if s.last == nil {
		s.last = f
	}
}

// fails checks the failure by parts of its message.
func (s *stage) fails(hang bool, parts ...string) {
	s.t.Helper()
	if s.last == nil {
		s.t.Errorf("no failure in the phase %s, want one of %q", s.Phase(), parts)
		return
	}
	for _, part := range parts {
		if !strings.Contains(s.last.Error(), part) {
			s.t.Errorf("the failure is %q, want %q in it", s.last, part)
		}
	}
	if s.last.Hang != hang {
		s.t.Errorf("%v: hang is %v", s.last, s.last.Hang)
	}
}

// good checks that nothing has failed.
func (s *stage) good() *stage {
	s.t.Helper()
	if s.last != nil {
		s.t.Errorf("failed: %v", s.last)
	}
	return s
}

const (
	base     = "log Nov 24 14:58:11 main-menu[1617]: INFO: Menu item 'bootstrap-base' selected"
	complete = "log Nov 24 15:21:10 herdbook: the installation is complete"
)

func TestAQuestionIsFoundWithItsText(t *testing.T) {
	question := []string{
		"Loading additional components  ", "Download installer components", "-----------------------------", "",
		"The installer failed to download a file from the mirror. This may be a problem ",
		"with your network, or with the mirror.", "Downloading a file failed:",
		"  1: Retry [*],  2: Change mirror,      3: Cancel,    ",
	}
	s := perform(t, "preseed", 1).say(question...).wait(time.Minute, "Prompt: '?' for help, default=1> ", false)
	s.fails(true, `in the phase "media"`, "waits for a person", "Download installer components", "3: Cancel", "Prompt: ")
	if strings.Contains(s.last.Error(), "Loading additional") || strings.Contains(s.last.Error(), "-----") {
		t.Errorf("what stands before the question is a part of it: %v", s.last)
	}
	if waited := s.now.Sub(s.printed); waited > 10*time.Second {
		t.Errorf("it was noticed after %v", waited)
	}
	// Some prompts end like lines.
	perform(t, "preseed", 1).say("Choose a mirror", "-------", "!! ERROR: Architecture not supported", "[Press enter to continue]").
		wait(time.Minute, "", false).fails(true, "Choose a mirror", "Architecture not supported")
	// What passes by is no prompt.
	perform(t, "preseed", 1).say("[Press enter to continue]").wait(4*time.Second, "", false).say("Going on").wait(time.Minute, "", true).good()
}

func TestAComplaintExplainsTheQuestion(t *testing.T) {
	perform(t, "preseed", 1).say("log Nov 24 main-menu[9]: WARNING **: Configuring 'choose-mirror' failed with error code 1").
		wait(time.Minute, "Prompt: '?' for help> ", false).
		fails(true, "before that it said: Nov 24 main-menu[9]: WARNING **: Configuring 'choose-mirror' failed")
}

func TestAComplaintMayComeLate(t *testing.T) {
	s := perform(t, "autoinstall", 1).say("An error occurred. Press enter to start a shell")
	f := s.last
	for range 2 {
		s.Line(event.System, "subiquity_log.1[9]: curtin: ERROR no disk", s.now)
		s.Explain(f)
	}
	if want := []string{"An error occurred. Press enter to start a shell", "before that it said: subiquity_log.1[9]: curtin: ERROR no disk"}; !slices.Equal(f.Text, want) {
		t.Errorf("%q, want %q", f.Text, want)
	}
}

func TestSilenceIsBoundedByThePhase(t *testing.T) {
	// It works, but says nothing.
	s := perform(t, "preseed", 1).say("Installing", base).wait(14*time.Minute, "", true).good()
	s.wait(2*time.Minute, "", true).fails(true, `"base system"`, "said nothing for 15m0s", "its last words were")
	// An emulated machine is given more time, and every word counts.
	s = perform(t, "preseed", 4).say(base).wait(59*time.Minute, "", true).good()
	s.say("log a word").wait(59*time.Minute, "", true).good()
	// So does progress behind an unfinished line.
	s = perform(t, "preseed", 1).say(base)
	for _, percent := range []string{"10%", "10%... 20%", "10%... 20%... 30%"} {
		s.wait(14*time.Minute, "Installing the base system  ... "+percent, true).good()
	}
	if s.Percent() != 30 {
		t.Errorf("it is at %d per cent", s.Percent())
	}
}

// What installers say of what did no harm is none.
func TestWhatIsNoFailure(t *testing.T) {
	for line, kind := range map[string]string{
		"log Nov 24 12:00:00 u subiquity_log.3817[7237]: 120 tests, 0 ERRORS":                    "autoinstall",
		"log Nov 24 12:00:00 u subiquity_event.1[1]: finish: subiquity/Filesystem/_probe: FAIL":  "autoinstall",
		"dracut-initqueue[512]: Warning: dracut-initqueue: timeout, still waiting for following": "kickstart",
	} {
		perform(t, kind, 1).say(line).wait(time.Minute, "", true).good()
	}
}

// A prompt has the same form in every language that the installer speaks.
func TestAQuestionInAnotherLanguage(t *testing.T) {
	for _, prompt := range []string{
		"Eingabe: »?« für Hilfe, Standard=1> ", "Invite: « ? » pour l'aide, par défaut=1> ", "[Eingabetaste drücken]", "[Appuyez sur Entrée pour continuer]",
	} {
		perform(t, "preseed", 1).say("Spiegelserver", "-------------").wait(time.Minute, prompt, false).fails(true, "waits for a person", strings.TrimSpace(prompt))
	}
	for _, text := range []string{"[   12.345678] a word of the kernel", "[ OK ]", "Setting up <package> (1)> "} {
		perform(t, "preseed", 1).wait(time.Minute, text, true).good()
	}
}

// Something that turns while it waits says nothing.
func TestASpinnerIsNoWord(t *testing.T) {
	s := perform(t, "autoinstall", 1)
	for i := range 200 {
		s.wait(time.Second, "waiting for cloud-init..."+string(`|/-\`[i%4]), false)
	}
	s.wait(3*time.Minute, "waiting for cloud-init...", false).fails(true, "done nothing at all for 5m0s")
}

// A slow network lets a machine do nothing for long, where it fetches.
func TestToFetchIsNotToWait(t *testing.T) {
	s := perform(t, "kickstart", 1).wait(29*time.Minute, "", false).good()
	s.wait(2*time.Minute, "", false).fails(true, "said nothing for 30m0s")
}

func TestAMachineThatDoesNothingWaits(t *testing.T) {
	perform(t, "preseed", 4).say(base).wait(2*time.Minute, "", false).good().
		wait(2*time.Minute, "", false).fails(true, "done nothing at all for 3m0s")
}

func TestAPhaseHasAnEnd(t *testing.T) {
	s := perform(t, "preseed", 1).say(base)
	for range 100 {
		s.say("log the same again").wait(time.Minute, "", true)
	}
	s.fails(true, "has not ended after 1h30m0s")
}

func TestTheEndIsJudged(t *testing.T) {
	end := func(powered, restarted bool, lines ...string) *Failure {
		s := perform(t, "preseed", 1).say(lines...)
		return s.End(powered, restarted, "QEMU went away", s.now)
	}
	for name, c := range map[string]struct {
		f    *Failure
		want string
	}{
		"done":                   {end(true, false, base, complete), ""},
		"done, and restarted":    {end(false, true, base, complete), ""},
		"done, and killed":       {end(false, false, base, complete), "complete, but QEMU went away"},
		"too early":              {end(true, false, base, "The system is going down NOW!", "[   63.004757] reboot: Power down"), `powered off before the installation was complete: its last words were "The system is going down NOW!"`},
		"a restart in the midst": {end(false, true, base), "restarted before"},
		"a crash":                {end(false, false, base), "QEMU went away"},
	} {
		got := ""
		if c.f != nil {
			got = strings.ReplaceAll(c.f.Error(), "\n    ", " ")
		}
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestAfterItsLastWordsItMustPowerOff(t *testing.T) {
	perform(t, "preseed", 1).say(base, complete).wait(4*time.Minute, "", true).good().
		wait(2*time.Minute, "", true).fails(true, "has not powered off for 5m1s")
	// What would be an error before is none behind them.
	perform(t, "kickstart", 1).say(doneWords, "The installer will now terminate").good()
}

func TestNothingEndlessIsKept(t *testing.T) {
	s := perform(t, "preseed", 1)
	for range 10 * keptLines {
		s.say(strings.Repeat("x", 100))
	}
	if len(s.console) > keptLines {
		t.Errorf("%d lines are kept", len(s.console))
	}
}

// The time of the last phase is that of its work, and of the end of the machine.
func TestTheLastPhaseTakesItsTime(t *testing.T) {
	s := perform(t, "preseed", 1).say(base).wait(10*time.Minute, "", true).say(complete).wait(time.Minute, "", true).good()
	if f := s.End(true, false, "", s.now); f != nil {
		t.Error(f)
	}
	spent := s.Spent()
	if last := spent[len(spent)-1]; last.Phase != BaseSystem || last.Time < 11*time.Minute {
		t.Errorf("%+v", spent)
	}
}

// What the installers say, as far as it is known, leads through all phases to
// the end.
func TestPhases(t *testing.T) {
	for kind, c := range map[string]struct {
		lines []string
		want  []string
	}{
		"preseed": {[]string{
			"log Nov 24 14:55:01 main-menu[1617]: INFO: Menu item 'localechooser' selected",
			"log Nov 24 14:55:31 main-menu[1617]: INFO: Menu item 'ethdetect' selected",
			"log Nov 24 14:55:51 main-menu[1617]: INFO: Menu item 'choose-mirror' selected",
			"log Nov 24 14:56:11 main-menu[1617]: INFO: Menu item 'download-installer' selected",
			"log Nov 24 14:57:19 main-menu[1617]: INFO: Menu item 'user-setup-udeb' selected",
			"log Nov 24 14:57:41 main-menu[1617]: INFO: Menu item 'partman-base' selected", base,
			"log Nov 24 15:14:01 main-menu[1617]: INFO: Menu item 'apt-setup-udeb' selected",
			"log Nov 24 15:16:14 main-menu[1617]: INFO: Menu item 'grub-installer' selected",
			"log Nov 24 15:18:39 main-menu[1617]: INFO: Menu item 'finish-install' selected", complete,
		}, []string{Media, Network, Media, Partition, BaseSystem, Packages, BootLoader, Finish}},
		"kickstart": {[]string{
			"Starting installer, one moment...", "anaconda 34.25.5.9-1.el9.alma.1 for AlmaLinux 9.5 started.", "Starting automated install.....",
			begins, "Configuring storage", "Creating disklabel on /dev/vda", "Creating ext4 on /dev/vda1", "Running pre-installation scripts",
			"Starting package installation process", "Preparing transaction from installation source", "Installing libgcc.x86_64 (1/313)",
			"Installing rootfiles.noarch (313/313)", "Performing post-installation setup tasks", "Installing boot loader", "Generating initramfs",
			"Running post-installation scripts", doneWords,
		}, []string{Media, Network, Partition, BaseSystem, Packages, BootLoader, Finish}},
		// All but the names of packages is translated.
		"kickstart in German": {[]string{
			"Automatisierte Installation wird gestartet.....", begins, "Speicher wird konfiguriert",
			"libgcc.x86_64 (1/313) wird installiert", "rootfiles.noarch (313/313) wird installiert", "Installation des Bootloaders", doneWords,
		}, []string{Media, Partition, Packages}},
		"autoinstall": {[]string{
			"log Nov 24 12:00:00 ubuntu-server subiquity_event.1234[1234]: subiquity/Late/load_autoinstall_data",
			"log Nov 24 12:00:00 ubuntu-server subiquity_event.1234[1234]: subiquity/Shutdown/load_autoinstall_data",
			"log Nov 24 12:00:01 ubuntu-server subiquity_event.1234[1234]: start: subiquity/Early/apply_autoinstall_config",
			"log Nov 24 12:00:01 ubuntu-server subiquity_event.1234[1234]: start: subiquity/Network/apply_autoinstall_config",
			"log Nov 24 12:00:09 ubuntu-server subiquity_event.1234[1234]: start: subiquity/Filesystem/apply_autoinstall_config",
			"log Nov 24 12:00:09 ubuntu-server subiquity_event.1234[1234]:   subiquity/Install/install/curtin_install/run/cmd-install/stage-partitioning: configuring storage",
			"log Nov 24 12:00:20 ubuntu-server subiquity_event.1234[1234]:   subiquity/Install/install/curtin_install/run/cmd-install/stage-extract: writing install sources",
			"log Nov 24 12:03:20 ubuntu-server subiquity_event.1234[1234]:   subiquity/Install/install/curtin_install/run/cmd-install/stage-curthooks: configuring installed system",
			"log Nov 24 12:05:20 ubuntu-server subiquity_event.1234[1234]: start: subiquity/Install/install/postinstall: final system configuration",
			"log Nov 24 12:09:20 ubuntu-server subiquity_event.1234[1234]: start: subiquity/Late/run",
			"log Nov 24 12:09:21 ubuntu-server subiquity_event.1234[1234]: start: subiquity/Shutdown/shutdown: mode=POWEROFF",
		}, []string{Media, Network, Partition, BaseSystem, BootLoader, Packages, Finish}},
		"autoinstall, told by what it does": {[]string{
			"log May 21 20:53:20 ubuntu subiquity_event.3817[3817]: subiquity/Network/apply_autoinstall_config",
			"log May 21 20:53:59 ubuntu subiquity_event.3817[3817]:  executing curtin install partitioning step",
			"log May 21 20:55:59 ubuntu subiquity_event.3817[3817]:  executing curtin install extract step",
			"log May 21 20:58:59 ubuntu subiquity_event.3817[3817]:  executing curtin install curthooks step",
			"log May 21 20:59:59 ubuntu subiquity_event.3817[3817]:  mode=POWEROFF",
		}, []string{Media, Network, Partition, BaseSystem, BootLoader}},
		"autoyast": {[]string{
			">>> linuxrc 7.0.31 (Kernel 5.14.21-150500.53-default) <<<", "Loading Installation System (1/7)", "starting yast",
			"Installing Packages...", "Saving bootloader configuration...", "Finishing Basic Installation", "log install program exit code is 0",
		}, []string{Media, Network, Partition, Packages, BootLoader, Finish}},
	} {
		kind, _, _ = strings.Cut(strings.ReplaceAll(kind, ",", ""), " ")
		s := perform(t, kind, 1).say(c.lines...).good()
		if f := s.End(true, false, "", s.now); f != nil {
			t.Errorf("%s: %v", kind, f)
		}
		var got []string
		for _, spent := range s.Spent() {
			got = append(got, spent.Phase)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", kind, diff)
		}
	}
}

func TestFailuresOfTheInstallers(t *testing.T) {
	for name, c := range map[string]struct {
		kind string
		last string // line or, with a question, what stands unfinished
		ask  bool
	}{
		"a kickstart that asks":           {"kickstart", "Please make a selection from the above:  ", true},
		"the summary of the text mode":    {"kickstart", "Please make your choice from above ['q' to quit | 'b' to begin installation | 'r' to refresh]: ", true},
		"the emergency shell":             {"kickstart", "dracut:/# ", true},
		"an error in command-line mode":   {"kickstart", "Can't have a question in command line mode!", false},
		"a tree that is none":             {"kickstart", "The installer will now terminate.", false},
		"a confirmation of autoinstall":   {"autoinstall", "Continue with autoinstall? (yes|no)", true},
		"an autoinstall that is not read": {"autoinstall", "ubuntu-server login: ", true},
		"an end that failed":              {"autoinstall", "An error occurred. Press enter to start a shell", false},
		"a YaST that failed":              {"autoyast", "install program exit code is 1", false},
		"an emergency":                    {"kickstart", "You are in emergency mode. After logging in, type \"journalctl -xb\" to view", false},
		"no disc":                         {"autoinstall", "Unable to find a medium containing a live file system", false},
		"linuxrc's menu":                  {"autoyast", "> ", true},
		"no repository":                   {"autoyast", "*** Could not find the repository.", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := perform(t, c.kind, 1)
			if c.ask {
				s.say("some words").wait(time.Minute, c.last, false).fails(true, "waits for a person", strings.TrimSpace(c.last))
				return
			}
			s.say(c.last).fails(false, "reports an error", c.last)
		})
	}
}

// Whatever a guest prints, the monitor stays bounded and does not panic.
func FuzzMonitor(f *testing.F) {
	f.Add("preseed", "Title\n-----\ntext\nPrompt: '?' for help> \n")
	f.Add("kickstart", "Installing a (1/0)\nInstalling b (999999999999999999999/1)\n")
	f.Add("autoinstall", "subiquity/Shutdown/\n")
	f.Add("autoyast", "\x00\xff 999%\n")
	f.Fuzz(func(t *testing.T, kind, text string) {
		s, err := New(definition.Install{Kind: kind}, Place{})
		if err != nil {
			return
		}
		now := time.Unix(0, 0)
		m := NewMonitor(s.Reading, 1, now)
		for _, line := range strings.Split(text, "\n") {
			now = now.Add(time.Second)
			m.Line(event.Console, line, now)
			m.Watch(line, false, now)
			if m.Percent() < 0 || m.Percent() > 100 || len(m.console) > keptLines {
				t.Fatalf("%d per cent, %d lines", m.Percent(), len(m.console))
			}
		}
		m.Watch("", false, now.Add(time.Hour))
	})
}
