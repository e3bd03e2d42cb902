package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"herdbook/internal/op"
)

// hostname sets the static name and lets /etc/hosts know it: Debian's way is a
// line for 127.0.1.1.
func (g *Guest) hostname(o *op.Hostname) error {
	if err := g.Root.WriteFile("/etc/hostname", []byte(o.Name+"\n"), owned(0o644), true); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	text, err := g.Root.ReadFile("/etc/hosts")
	if errors.Is(err, fs.ErrNotExist) {
		text, err = []byte("127.0.0.1\tlocalhost\n"), nil
	}
	if err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	names := o.Name
	if short, _, dotted := strings.Cut(o.Name, "."); dotted {
		names += " " + short
	}
	entry := "127.0.1.1\t" + names + "\n"
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		address := ""
		if fields := strings.Fields(string(line)); len(fields) > 0 {
			address = fields[0]
		}
		if address == "127.0.1.1" {
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
	if err := g.Root.WriteFile("/etc/hosts", out.Bytes(), owned(0o644), true); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	return nil
}
