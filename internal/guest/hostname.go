package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"herdbook/internal/op"
)

// Where distributions keep the static name. All with systemd, and Alpine, read
// /etc/hostname; SUSE's old name of it is kept true where it is a file of its own.
const (
	hostnamePath   = "/etc/hostname"
	oldSUSE        = "/etc/HOSTNAME"
	sysconfig      = "/etc/sysconfig/network" // of the Red Hat family before systemd
	sysconfigField = "HOSTNAME="
)

// hostname sets the static name as the distribution has it, and lets /etc/hosts
// know it where there is a line for it: Debian's way is one for 127.0.1.1.
func (g *Guest) hostname(o *op.Hostname) error {
	err := g.hostnameFiles(o.Name)
	if err == nil && g.namesItselfInHosts() {
		err = g.hostsEntry(o.Name)
	}
	if err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	return nil
}

func (g *Guest) hostnameFiles(name string) error {
	systemd := g.Root.Exists("/lib/systemd/systemd") || g.Root.Exists("/usr/lib/systemd/systemd")
	text, err := g.Root.ReadFile(sysconfig)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var out bytes.Buffer
	had := false
	for line := range bytes.Lines(text) {
		if had = had || bytes.HasPrefix(line, []byte(sysconfigField)); !bytes.HasPrefix(line, []byte(sysconfigField)) {
			out.Write(line)
		}
	}
	if out.Len() > 0 && !bytes.HasSuffix(out.Bytes(), []byte("\n")) {
		out.WriteByte('\n')
	}
	oldRedHat := err == nil && !systemd && g.Root.Exists("/etc/redhat-release")
	if had || oldRedHat {
		out.WriteString(sysconfigField + name + "\n")
		if err := g.Root.Rewrite(sysconfig, out.Bytes()); err != nil {
			return err
		}
	}
	if st, err := g.Root.Lstat(oldSUSE); err == nil && isFile(st) {
		if err := g.Root.Rewrite(oldSUSE, []byte(name+"\n")); err != nil || !systemd {
			return err
		}
	}
	if oldRedHat {
		return nil // nothing there reads another file
	}
	return g.Root.WriteFile(hostnamePath, []byte(name+"\n"), owned(0o644), true)
}

// namesItselfInHosts tells whether /etc/hosts is to have a line of the machine's
// own: on Debian and its descendants, and where there is one already.
func (g *Guest) namesItselfInHosts() bool {
	if g.Root.Exists("/etc/debian_version") {
		return true
	}
	text, err := g.Root.ReadFile("/etc/hosts")
	if err != nil {
		return false
	}
	for line := range bytes.Lines(text) {
		if fields := strings.Fields(string(line)); len(fields) > 0 && fields[0] == ownAddress {
			return true
		}
	}
	return false
}

const ownAddress = "127.0.1.1"

// hostsEntry puts the line for the machine's own name into /etc/hosts.
func (g *Guest) hostsEntry(name string) error {
	text, err := g.Root.ReadFile("/etc/hosts")
	if errors.Is(err, fs.ErrNotExist) {
		text, err = []byte("127.0.0.1\tlocalhost\n"), nil
	}
	if err != nil {
		return err
	}
	names := name
	if short, _, dotted := strings.Cut(name, "."); dotted {
		names += " " + short
	}
	entry := ownAddress + "\t" + names + "\n"
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		address := ""
		if fields := strings.Fields(string(line)); len(fields) > 0 {
			address = fields[0]
		}
		if address == ownAddress {
			continue
		}
		out.Write(line)
		if !bytes.HasSuffix(line, []byte("\n")) {
			out.WriteByte('\n')
		}
		if entry != "" && address == "127.0.0.1" {
			out.WriteString(entry)
			entry = ""
		}
	}
	out.WriteString(entry)
	return g.Root.WriteFile("/etc/hosts", out.Bytes(), owned(0o644), true)
}
