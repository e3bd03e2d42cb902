package identity

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// The bounds of what is read of a system that nobody vouches for.
const (
	maxFile    = 1 << 20 // bytes of a file
	maxMatches = 256     // files of one pattern, and values of one file
	maxValue   = 256     // bytes of a value or a path
	maxFacts   = 1000    // in all
)

// probe is one way to find values: those that read finds in each file that one of
// the patterns of package path matches. Without read, the file's name is the value.
type probe struct {
	read     reader
	patterns []string
}

// reader finds values in a file. Those that are empty count for nothing.
type reader func(f file) []string

// file is a file that a pattern matched.
type file struct {
	tree    fs.FS
	name    string
	content []byte
}

// Gather reads everything that names the machine whose root tree is. What cannot be
// read is not there. It is best called when the system has come up, so that it had
// time to make what it makes at its first start.
func Gather(tree fs.FS) []Fact {
	var facts []Fact
	for _, k := range kinds {
		found := k.gather(tree)
		if place := first(tree, k.wanted); len(found) == 0 && place != "" {
			found = []Fact{{Name: k.name, Where: "/" + place}}
		}
		facts = append(facts, found...)
	}
	return facts[:min(len(facts), maxFacts)]
}

func (k kind) gather(tree fs.FS) []Fact {
	var facts []Fact
	for _, p := range k.probes {
		for _, name := range glob(tree, p.patterns) {
			for _, value := range p.values(tree, name) {
				fact := Fact{Name: k.name, Value: clean(value), Where: clean("/" + name)}
				if fact.Value != "" && !k.ignores(fact.Value) && !slices.Contains(facts, fact) {
					facts = append(facts, fact)
				}
			}
		}
	}
	return facts
}

func (k kind) ignores(value string) bool {
	return slices.ContainsFunc(k.ignored, func(other string) bool { return strings.EqualFold(other, value) })
}

// clean makes a text of a guest fit for a message of one line.
func clean(text string) string {
	text = strings.TrimSpace(strings.ToValidUTF8(text, "�"))
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
	if len(text) > maxValue {
		text = strings.ToValidUTF8(text[:maxValue], "") + "…"
	}
	return text
}

// glob returns what any of the patterns matches. They are ours, and so well-formed.
func glob(tree fs.FS, patterns []string) []string {
	var names []string
	for _, pattern := range patterns {
		found, err := fs.Glob(tree, pattern)
		if err == nil {
			names = append(names, found[:min(len(found), maxMatches)]...)
		}
	}
	return names
}

// first is the first file that any of the patterns matches, broken links left out.
func first(tree fs.FS, patterns []string) string {
	for _, name := range glob(tree, patterns) {
		if _, err := fs.Stat(tree, name); err == nil {
			return name
		}
	}
	return ""
}

func (p probe) values(tree fs.FS, name string) []string {
	if p.read == nil {
		return []string{path.Base(name)}
	}
	content, ok := readFile(tree, name)
	if !ok {
		return nil
	}
	values := p.read(file{tree, name, content})
	return values[:min(len(values), maxMatches)]
}

// readFile reads the first part of a regular file. Others are not opened: a pipe
// would make the reader wait.
func readFile(tree fs.FS, name string) ([]byte, bool) {
	stat, err := fs.Stat(tree, name)
	if err != nil || !stat.Mode().IsRegular() {
		return nil, false
	}
	f, err := tree.Open(name)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile))
	return content, err == nil
}

// text is the whole of a small file.
func text(f file) []string { return []string{string(f.content)} }

// secret is a digest of a file, by which it can be recognised but not known.
func secret(f file) []string {
	if len(f.content) == 0 {
		return nil
	}
	return []string{fingerprint(f.content)}
}

// fingerprint has half of the digest, which is enough to tell machines apart.
func fingerprint(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:len(sum)/2])
}

// hashed gives the digests of what another reader finds.
func hashed(read reader) reader {
	return func(f file) []string {
		values := read(f)
		for i, v := range values {
			values[i] = fingerprint([]byte(v))
		}
		return values
	}
}

func hexadecimal(f file) []string { return []string{hex.EncodeToString(f.content)} }

// sshKey is the fingerprint of a public key in a line of its own, as ssh-keygen -l
// prints it.
func sshKey(f file) []string {
	var prints []string
	for line := range strings.Lines(string(f.content)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		blob, err := base64.StdEncoding.DecodeString(fields[1])
		if err != nil || len(blob) == 0 {
			continue
		}
		sum := sha256.Sum256(blob)
		prints = append(prints, "SHA256:"+base64.RawStdEncoding.EncodeToString(sum[:]))
	}
	return prints
}

// namedHostKeys are those that sshd's settings name and that have no usual name.
func namedHostKeys(f file) []string {
	var prints []string
	for _, name := range every(hostKey)(f) {
		name = path.Clean(name)
		if usual, err := path.Match("etc/ssh/ssh_host_*_key", name); err != nil || usual || !fs.ValidPath(name) {
			continue
		}
		if content, ok := readFile(f.tree, name+".pub"); ok {
			prints = append(prints, sshKey(file{f.tree, name + ".pub", content})...)
		}
	}
	return prints
}

// privateKey is a digest of a key that has no public one beside it.
func privateKey(f file) []string {
	if content, ok := readFile(f.tree, f.name+".pub"); ok && len(sshKey(file{f.tree, f.name + ".pub", content})) > 0 {
		return nil
	}
	return secret(f)
}

// every gives what the first group of a pattern matches.
func every(pattern *regexp.Regexp) reader {
	return func(f file) []string {
		var values []string
		for _, m := range pattern.FindAllSubmatch(f.content, maxMatches) {
			values = append(values, string(m[1]))
		}
		return values
	}
}

// macAddresses gives the addresses of interfaces, all written alike.
func macAddresses(f file) []string {
	values := every(macAddress)(f)
	for i, v := range values {
		values[i] = strings.ToLower(strings.ReplaceAll(v, "-", ":"))
	}
	return values
}

// setting gives the values of a line KEY=VALUE, quotes taken off.
func setting(key string) reader {
	read := every(regexp.MustCompile(`(?m)^[ \t]*` + key + `[ \t]*=[ \t]*(.*)$`))
	return func(f file) []string {
		values := read(f)
		for i, v := range values {
			values[i] = strings.Trim(strings.TrimSpace(v), `"'`)
		}
		return values
	}
}

// physicalAddress is the address of an interface behind which there is a device:
// bridges and tunnels may well have the same everywhere.
func physicalAddress(f file) []string {
	if _, err := fs.Stat(f.tree, path.Join(path.Dir(f.name), "device")); err != nil {
		return nil
	}
	return []string{string(f.content)}
}
