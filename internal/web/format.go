package web

import (
	"fmt"
	"html/template"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// functions are what the templates may call.
func (h *Handler) functions() template.FuncMap {
	return template.FuncMap{
		"asset":    func(name string) string { return h.prefix + h.assets[name].path },
		"home":     func() string { return h.prefix + "/" },
		"file":     func(name string) string { return h.prefix + escaped(path.Join("/", name)) },
		"image":    func(name string) string { return h.prefix + "/-/images/" + url.PathEscape(name) },
		"compare":  func(name string) string { return h.prefix + "/-/compare/" + url.PathEscape(name) },
		"bytes":    bytesOf,
		"more":     more,
		"exact":    func(n int64) string { return exact(n) + " bytes" },
		"count":    func(n int) string { return exact(int64(n)) },
		"many":     many,
		"date":     func(t time.Time) string { return t.UTC().Format("2 January 2006") },
		"time":     func(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") },
		"stamp":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"took":     took,
		"short":    short,
		"groups":   groups,
		"plain":    plain,
		"known":    func(t time.Time) bool { return !t.IsZero() },
		"kindName": kindName,
	}
}

// escaped is a path as it stands in a URL.
func escaped(p string) string { return (&url.URL{Path: p}).EscapedPath() }

// bytesOf writes a number of bytes with a binary unit.
func bytesOf(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	f, i := float64(n), 0
	for (f >= 1024 || f <= -1024) && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 || f >= 100 || f <= -100 || f == float64(int64(f)) {
		return fmt.Sprintf("%.0f\u00a0%s", f, units[i])
	}
	return fmt.Sprintf("%.1f\u00a0%s", f, units[i])
}

// more writes a difference of sizes with its sign.
func more(n int64) string {
	switch {
	case n > 0:
		return "+" + bytesOf(n)
	case n < 0:
		return "−" + bytesOf(-n)
	}
	return "±0"
}

// exact writes a number with its thousands apart.
func exact(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for at := len(digits) - 3; at > 0 && digits[at-1] != '-'; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// many writes a number of things.
func many(n int, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return exact(int64(n)) + " " + several
}

// took writes how long something took.
func took(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d\u00a0ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f\u00a0s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f\u00a0s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f\u00a0min", d.Minutes())
	}
	return fmt.Sprintf("%.1f\u00a0h", d.Hours())
}

// short is the beginning of a digest.
func short(digest string) string {
	_, hash, ok := strings.Cut(digest, ":")
	if !ok {
		hash = digest
	}
	return hash[:min(len(hash), 12)]
}

// groups writes a fingerprint in groups of four, as gpg does.
func groups(fingerprint string) string {
	var b strings.Builder
	for i, r := range strings.ToUpper(plain(fingerprint)) {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// plain leaves out of a text what would make it look like another: control
// characters but for the end of a line, and what turns the direction of writing.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// clip is a text that has n characters at most.
func clip(text string, n int) string {
	runes := []rune(text)
	if len(runes) <= n {
		return text
	}
	return strings.TrimSpace(string(runes[:n-1])) + "…"
}

// kindName says in words what an artefact is.
func kindName(kind string) string {
	if provider, ok := strings.CutPrefix(kind, boxKind); ok {
		return "Vagrant box for " + providerName(provider)
	}
	switch kind {
	case "qcow2":
		return "disk image, ready to run"
	case "xz":
		return "disk image, packed for archives and old clients"
	case "kernel":
		return "kernel, for booting over the network"
	case "initrd":
		return "initrd, for booting over the network"
	case "manifest":
		return "manifest: pedigree and packages"
	}
	return "file"
}
