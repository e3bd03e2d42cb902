package comparison

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"herdbook/internal/survey"
)

// signs begin the lines of the text.
var signs = map[Change]string{Added: "+", Removed: "-", Changed: "~"}

// WriteText writes the comparison for reading: a line for each thing that was added
// (+), removed (-) or changed (~), the files last. What the systems say is quoted
// where it could make a mess of lines or of a terminal.
func (c *Comparison) WriteText(w io.Writer) error {
	p := &printer{w: w}
	if c.Same() {
		p.line("No differences.")
		return p.err
	}
	var lines []string
	for _, d := range c.Packages {
		version := d.From + d.To
		if d.Change == Changed {
			version = d.From + "→" + d.To
		}
		lines = append(lines, signs[d.Change]+" "+strings.TrimRight(fmt.Sprintf("%s %s %s", survey.Plain(d.Name), survey.Plain(version), survey.Plain(d.Architecture)), " "))
	}
	p.section("Packages", lines)
	p.section("Units", texts(c.Units))
	p.section("Users", texts(c.Users))
	p.section("Groups", texts(c.Groups))
	p.sizes(c.Sizes)
	p.section("Files", texts(c.Files))
	return p.err
}

// printer keeps the first error of writing.
type printer struct {
	w     io.Writer
	begun bool
	err   error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// heading begins a section.
func (p *printer) heading(text string) {
	if p.begun {
		p.line("")
	}
	p.begun = true
	p.line("%s", text)
}

// section writes lines below a heading that counts them.
func (p *printer) section(name string, lines []string) {
	if len(lines) == 0 {
		return
	}
	count := map[string]int{}
	for _, l := range lines {
		count[l[:1]]++
	}
	var counts []string
	for _, change := range []Change{Added, Removed, Changed} {
		if n := count[signs[change]]; n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, change))
		}
	}
	p.heading(name + ": " + strings.Join(counts, ", "))
	for _, l := range lines {
		p.line("%s", l)
	}
}

func (p *printer) sizes(list []Size) {
	if len(list) == 0 || p.err != nil {
		return
	}
	p.heading("Sizes: bytes, before, now")
	t := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	for _, s := range list {
		by := survey.Bytes(s.To - s.From)
		if s.To >= s.From {
			by = "+" + by
		}
		fmt.Fprintf(t, "  %11s\t%10s\t%10s\t%s\n", by, survey.Bytes(s.From), survey.Bytes(s.To), survey.Plain(s.Dir))
	}
	p.err = t.Flush()
}

// texts are the lines of differences.
func texts(list []Difference) []string {
	var lines []string
	for _, d := range list {
		name := d.Name
		if d.Kind == "directory" && name != "/" {
			name += "/"
		}
		line := signs[d.Change] + " " + survey.Plain(name)
		var details []string
		for _, detail := range d.Details {
			details = append(details, detail.text(d.Change))
		}
		if len(details) > 0 {
			line += " (" + strings.Join(details, ", ") + ")"
		}
		lines = append(lines, line)
	}
	return lines
}

// text is a detail in few words.
func (d Detail) text(change Change) string {
	what, from, to := survey.Plain(d.What), survey.Plain(d.From), survey.Plain(d.To)
	switch {
	case d.What == "content" || from+to == "":
		return what
	case change != Changed:
		return what + " " + from + to
	case from == "":
		return what + " +" + to
	case to == "":
		return what + " -" + from
	}
	return what + " " + from + "→" + to
}
