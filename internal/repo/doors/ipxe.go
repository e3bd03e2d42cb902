package doors

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"herdbook/internal/repo"
)

// maxWords bounds the kernel's command line: Linux on x86 takes 2,048 bytes.
const maxWords = 1500

// menuTimeout is after how many seconds the menu takes its first entry.
const menuTimeout = 10

// consoles are the serial ones, by the architectures that there is an iPXE for.
var consoles = map[string]string{"x86_64": "ttyS0,115200", "i386": "ttyS0,115200", "i686": "ttyS0,115200", "aarch64": "ttyAMA0"}

// choice is an entry of the menu: what a channel points to.
type choice struct {
	label, channel string
	entry          repo.Entry
}

// menu is a script for iPXE that offers the images with a kernel and an initrd: what
// stable points to, then other channels. Paths in it are relative to the script.
// Nothing in such a script can be quoted, so what would not be itself in it is
// refused on the kernel's command line, and blotted out in names.
func menu(x repo.Index, _ *url.URL) ([]File, error) {
	var list []choice
	for _, part := range x.Split() {
		for _, channel := range channels(part) {
			for _, e := range part.Entries {
				_, kernel := e.Artefact("kernel")
				_, initrd := e.Artefact("initrd")
				if !kernel || !initrd || !e.Has(channel) || consoles[e.Arch] == "" {
					continue
				}
				list = append(list, choice{fmt.Sprintf("boot-%s-%s-%s", e.Image, channel, e.Arch), channel, e})
			}
		}
	}
	if list == nil {
		return nil, nil
	}
	isStable := func(c choice) bool { return c.channel == repo.Stable }
	others := slices.DeleteFunc(slices.Clone(list), isStable)
	list = slices.DeleteFunc(list, func(c choice) bool { return !isStable(c) })
	text, err := script(append(list, others...))
	return []File{{Name: MenuName, Text: []byte(text)}}, err
}

// script writes the menu and what its entries do.
func script(list []choice) (string, error) {
	var out strings.Builder
	fmt.Fprintf(&out, "#!ipxe\n\n:menu\nmenu Images of this repository\n")
	for _, c := range list {
		// iPXE for BIOS calls itself i386, and the item of another architecture is
		// not shown.
		condition, always := "iseq ${buildarch} arm64 ||", ""
		if c.entry.Arch == "aarch64" {
			condition, always = "iseq ${buildarch} arm64 &&", " ||"
		}
		fmt.Fprintf(&out, "%s item %s %s%s\n", condition, c.label, title(c), always)
	}
	fmt.Fprintf(&out, "item --gap\nitem local Boot as if this menu were not there\nitem shell Give commands to iPXE\n")
	fmt.Fprintf(&out, "choose --timeout %d target || goto local\ngoto ${target}\n", menuTimeout*1000)
	for _, c := range list {
		words, err := cmdline(c.entry)
		if err != nil {
			return "", fmt.Errorf("[%.80s]: %w", c.entry.ID, err)
		}
		kernel, _ := c.entry.Artefact("kernel")
		initrd, _ := c.entry.Artefact("initrd")
		for _, file := range []string{kernel.File, initrd.File} {
			// iPXE itself asks for %FFFFFFC3 where it is given %C3.
			if strings.ContainsFunc(file, func(r rune) bool { return r > '~' }) {
				return "", fmt.Errorf("[%.80s]: %.80q cannot be the name of a file that iPXE loads", c.entry.ID, file)
			}
		}
		fmt.Fprintf(&out, "\n:%s\n", c.label)
		fmt.Fprintf(&out, "kernel %s %s || goto failed\n", escape(kernel.File), words)
		fmt.Fprintf(&out, "initrd --name %s %s || goto failed\nboot || goto failed\n", initrdName, escape(initrd.File))
	}
	out.WriteString("\n:failed\nimgfree\nprompt It could not be booted. Any key leads back to the menu. || goto local\ngoto menu\n")
	out.WriteString("\n:shell\nshell\ngoto menu\n\n:local\nexit\n")
	return out.String(), nil
}

// initrdName is what the kernel asks iPXE's file system for where the firmware is
// UEFI; with BIOS it is ignored.
const initrdName = "initrd"

// cmdline makes the kernel's command line: which initrd, the words that the index
// has, and the consoles, unless those say any.
func cmdline(e repo.Entry) (string, error) {
	words := []string{"initrd=" + initrdName}
	console := false
	for _, word := range strings.Split(e.Cmdline, " ") {
		switch {
		case word == "":
			continue
		case word == "||" || word == "&&" || word == ";" || word[0] == '#' || strings.Contains(word, "${") || strings.HasSuffix(word, `\`),
			strings.ContainsFunc(word, func(r rune) bool { return r < '!' || r > '~' }):
			return "", fmt.Errorf("%.80q cannot be a word for a kernel that iPXE starts", word)
		}
		console = console || strings.HasPrefix(word, "console=")
		words = append(words, word)
	}
	if !console {
		words = append(words, "console=tty0", "console="+consoles[e.Arch])
	}
	line := strings.Join(words, " ")
	if len(line) > maxWords {
		return "", fmt.Errorf("the kernel's command line has %d bytes, more than the %d it may have", len(line), maxWords)
	}
	return line, nil
}

// title is what the menu shows of an entry.
func title(c choice) string {
	e := c.entry
	text := fmt.Sprintf("%s, revision %d", e.Image, e.Revision)
	if name := legible(e.Name); name != "" && name != e.Image {
		text = fmt.Sprintf("%s (%s)", name, text)
	}
	if c.channel != repo.Stable {
		text += ", " + c.channel
	}
	return text
}

// legible blots out of a name what iPXE would take for more than a name, or its
// console could not show.
func legible(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune("${}|&;#\\", r), r > '~':
			return '?'
		case r <= ' ':
			return ' '
		}
		return r
	}, name)
	name = strings.Join(strings.Fields(name), " ")
	return name[:min(len(name), 50)]
}

// escape writes a path as the part of a URL, with nothing in it that a script could
// take for something else.
func escape(path string) string {
	var out strings.Builder
	for i, c := range []byte(path) {
		if c == '-' && i == 0 { // it is no option
			out.WriteString("%2D")
		} else if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("/._-", c) >= 0 {
			out.WriteByte(c)
		} else {
			fmt.Fprintf(&out, "%%%02X", c)
		}
	}
	return out.String()
}
