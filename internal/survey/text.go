package survey

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"

	"herdbook/internal/pkgdb"
)

// Text is the survey for reading, for a terminal of 100 columns; what the image
// says is quoted where it could do something to that. The lists of packages,
// which are long, are in it if they are asked for.
func (s *Survey) Text(packages bool) string {
	var b strings.Builder
	s.overview(&b)
	s.partitions(&b)
	s.fileSystems(&b)
	in := &s.System
	in.mounts(&b)
	in.kernels(&b)
	in.users(&b)
	in.units(&b)
	in.sizes(&b)
	if packages {
		in.packages(&b)
	}
	return b.String()
}

// Bytes writes a number of bytes with a binary unit.
func Bytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	f, i := float64(n), 0
	for (f >= 1024 || f <= -1024) && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// Plain is a text of a guest's that makes no mess of a terminal and of lines.
func Plain(text string) string {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// table writes rows of cells below a heading; without rows it is nothing.
func table(b *strings.Builder, heading string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", heading)
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			row[i] = Plain(cell)
		}
		fmt.Fprintln(w, "  "+strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	_ = w.Flush() // a Builder takes everything
}

// right is a text at the right of a column.
func right(text string, width int) string { return fmt.Sprintf("%*s", width, text) }

func (s *Survey) overview(b *strings.Builder) {
	in := &s.System
	system := Plain(cmp.Or(in.Release.PrettyName, in.Release.ID))
	if in.Architecture != "" {
		system += ", " + in.Architecture
	}
	fmt.Fprintf(b, "%s\n", Plain(s.Image.Path))
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	row := func(what, value string) { fmt.Fprintf(w, "  %s\t%s\n", what, value) }
	row("image", fmt.Sprintf("%s, %s", s.Image.Format, Bytes(s.Image.Size)))
	row("system", system)
	if in.Hostname != "" {
		row("host name", Plain(in.Hostname))
	}
	for _, d := range in.Databases {
		row("packages", fmt.Sprintf("%d of %s (%s)", len(d.Packages), d.Manager, d.Format))
	}
	if len(in.Databases) == 0 {
		row("packages", "no database found")
	}
	_ = w.Flush() // a Builder takes everything
}

func (s *Survey) partitions(b *strings.Builder) {
	var rows [][]string
	for _, p := range s.Partitions {
		notes := p.Name
		if p.Active {
			notes = "active"
		}
		rows = append(rows, []string{right(strconv.Itoa(p.Number), 3), right(Bytes(p.Start), 10), right(Bytes(p.Size), 10), cmp.Or(p.TypeName, p.Type), notes})
	}
	table(b, fmt.Sprintf("Partitions, %s: number, start, size, type, name", s.Image.Table), rows)
}

func (s *Survey) fileSystems(b *strings.Builder) {
	var rows [][]string
	for _, f := range s.FileSystems {
		size := ""
		if f.Size > 0 {
			size = Bytes(f.Size)
		}
		if f.Used > 0 {
			size = Bytes(f.Used) + " of " + size
		}
		where := "disk"
		if f.Partition > 0 {
			where = strconv.Itoa(f.Partition)
		}
		if f.Device != "" {
			where = f.Device
		}
		rows = append(rows, []string{right(where, 3), f.Dir, f.Kind, size, f.UUID, f.Label})
	}
	table(b, "File systems: partition or device, place, kind, bytes in use, UUID, label", rows)
}

func (s *System) mounts(b *strings.Builder) {
	var rows [][]string
	for _, l := range s.Fstab {
		rows = append(rows, []string{l.Spec, l.Dir, l.Type, l.Options})
	}
	table(b, "Mounts of /etc/fstab: what, where, kind, options", rows)
}

func (s *System) kernels(b *strings.Builder) {
	var rows [][]string
	for _, k := range s.Kernels {
		rows = append(rows, []string{k.Version, k.Image, cmp.Or(k.Initrd, "no initrd")})
	}
	table(b, "Kernels with modules: version, image, initrd", rows)
}

func (s *System) users(b *strings.Builder) {
	var rows [][]string
	for _, u := range s.Users {
		if u.Login {
			rows = append(rows, []string{u.Name, right(u.UID, 5), u.Home, u.Shell, "password " + u.Password})
		}
	}
	table(b, "Users with a shell: name, number, home, shell", rows)
}

// units lists names side by side.
func (s *System) units(b *strings.Builder) {
	for _, state := range []string{"enabled", "masked"} {
		var names []string
		for _, u := range s.Units {
			if u.State == state {
				names = append(names, Plain(u.Name))
			}
		}
		if len(names) > 0 {
			fmt.Fprintf(b, "\nUnits of systemd, %s\n%s", state, columns(names, 98))
		}
	}
}

// columns lays names into as many columns as fit, going down each.
func columns(names []string, width int) string {
	widest := 0
	for _, n := range names {
		widest = max(widest, utf8.RuneCountInString(n))
	}
	lines := (len(names)-1)/max(1, (width+2)/(widest+2)) + 1
	var b strings.Builder
	for i := range lines {
		line := ""
		for j := i; j < len(names); j += lines {
			line += fmt.Sprintf("  %-*s", widest, names[j])
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// sizes lists the directories of the first level, the largest first, and those
// below that have a part in it.
func (s *System) sizes(b *strings.Builder) {
	var first []DirectorySize
	below := map[string][]DirectorySize{}
	for _, d := range s.Sizes {
		if parent := path.Dir(d.Dir); parent == "/" {
			first = append(first, d)
		} else {
			below[parent] = append(below[parent], d)
		}
	}
	var rows [][]string
	row := func(d DirectorySize, indent string) {
		rows = append(rows, []string{right(Bytes(d.Bytes), 10), right(strconv.FormatInt(d.Files, 10), 8), indent + Plain(d.Dir)})
	}
	for _, d := range largestFirst(first, 1) {
		row(d, "")
		for _, d := range largestFirst(below[d.Dir], max(1<<20, d.Bytes/20)) {
			row(d, "  ")
		}
	}
	table(b, "Sizes: bytes, files, directory", rows)
}

// largestFirst orders the directories that hold at least so many bytes.
func largestFirst(list []DirectorySize, least int64) []DirectorySize {
	list = slices.DeleteFunc(list, func(d DirectorySize) bool { return d.Bytes < least })
	slices.SortStableFunc(list, func(a, b DirectorySize) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return list
}

func (s *System) packages(b *strings.Builder) {
	for _, d := range s.Databases {
		var rows [][]string
		for _, p := range d.Packages {
			rows = append(rows, packageRow(p))
		}
		table(b, fmt.Sprintf("Packages of %s: name, version, architecture, bytes", d.Manager), rows)
	}
}

func packageRow(p pkgdb.Package) []string {
	return []string{p.Name, p.Version, p.Architecture, right(Bytes(p.Size), 10)}
}
