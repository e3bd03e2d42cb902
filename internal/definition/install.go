package definition

import (
	"fmt"
	"maps"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"herdbook/internal/digest"
)

// installKinds are the installers with the memory that each needs, in MiB.
var installKinds = map[string]int{"preseed": 1024, "kickstart": 3072, "autoinstall": 4096, "autoyast": 2048}

// install reads how an installer makes the image.
func (l *loader) install(b *hcl.Block, ctx *hcl.EvalContext) *Install {
	kind := b.Labels[0]
	if installKinds[kind] == 0 {
		l.fault(b.LabelRanges[0], "Unknown kind of install", fmt.Sprintf("There is no install %q.%s", kind, suggest(kind, slices.Collect(maps.Keys(installKinds)))))
		return nil
	}
	var raw struct {
		Install
		Location       string            `hcl:"location,optional"`
		Checksum       string            `hcl:"checksum,optional"`
		Kernel         string            `hcl:"kernel,optional"`
		KernelChecksum string            `hcl:"kernel_checksum,optional"`
		Initrd         string            `hcl:"initrd,optional"`
		InitrdChecksum string            `hcl:"initrd_checksum,optional"`
		Files          map[string]string `hcl:"files,optional"`
		Memory         string            `hcl:"memory,optional"`
		Timeout        string            `hcl:"timeout,optional"`
	}
	raw.Refresh, raw.Firmware = "daily", "bios"
	var network networkArguments
	targets := []any{&raw, &raw.Install, &network}
	content := l.content(b.Body, nil, targets...)
	given := l.decodeAll(content, ctx, targets)
	l.oneOf(given, "refresh", raw.Refresh, []string{"never", "daily", "always"})
	l.oneOf(given, "firmware", raw.Firmware, []string{"bios", "uefi"})
	made := raw.Install
	made.Kind, made.Position, made.Keyring = kind, l.position(b.DefRange), l.relative(raw.Keyring)
	if attr := given["keyring"]; attr != nil {
		if _, err := l.readFile(raw.Keyring); err != nil {
			l.fault(attr.Expr.Range(), "Keyring cannot be read", err.Error()+".")
		}
	}
	made.Location = l.medium(given["location"], raw.Location, given["checksum"], raw.Checksum)
	made.Kernel = l.medium(given["kernel"], raw.Kernel, given["kernel_checksum"], raw.KernelChecksum)
	made.Initrd = l.medium(given["initrd"], raw.Initrd, given["initrd_checksum"], raw.InitrdChecksum)
	made.Timeout = l.duration(given, raw.Timeout)
	made.Network = l.network(given, network, stepNetworkArguments{})
	made.Memory = installKinds[kind]
	if attr := given["memory"]; attr != nil {
		made.Memory = int(l.size(attr, raw.Memory) >> 20)
	}
	l.wholeInstall(&made, content, b.DefRange)
	l.plainWords(given, made)
	l.answers(given["answers"], made)
	made.Files = l.initrdFiles(given["files"], raw.Files)
	return &made
}

// wholeInstall reports what does not fit together.
func (l *loader) wholeInstall(i *Install, content *hcl.BodyContent, at hcl.Range) {
	has := func(name string) bool { return content.Attributes[name] != nil }
	disc := i.Location.IsDisc()
	switch {
	case has("location") && (has("kernel") || has("initrd")):
		l.fault(at, "Two installers", "Give either location, where kernel and initrd are found, or kernel and initrd, not both.")
	case !has("location") && !(has("kernel") && has("initrd")):
		l.fault(at, "No installer", "Give location, the address or path of an installer tree or of an ISO image, or both kernel and initrd.")
	case i.Kind == "autoinstall" && has("location") && !disc:
		l.fault(content.Attributes["location"].Range, "No installer", "Ubuntu's autoinstall starts from the ISO image of a live server; location must end in .iso.")
	case i.Kind == "autoinstall" && !has("location"):
		l.fault(at, "No installer", "Ubuntu's autoinstall starts from the ISO image of a live server: give location.")
	case disc && !has("checksum"):
		l.fault(content.Attributes["location"].Range, "No checksum", `An ISO image needs checksum = "sha256:…", which its publisher tells beside it.`)
	case !disc && has("checksum"):
		l.fault(content.Attributes["checksum"].Range, "Checksum of a tree", "Only an ISO image has a checksum. A tree is verified by its own signed list, or by kernel_checksum and initrd_checksum.")
	case has("refresh") && (disc || !has("location")):
		l.fault(content.Attributes["refresh"].Range, "Nothing to refresh", "Only a tree, whose state is pinned, is asked for it again.")
	case disc && (has("kernel_checksum") || has("initrd_checksum")):
		l.fault(at, "Two checksums", "The checksum of the ISO image vouches for all that is in it.")
	}
	for _, m := range []struct {
		name string
		Medium
	}{{"kernel", i.Kernel}, {"initrd", i.Initrd}} {
		if has(m.name) && !m.IsLocal() && !has(m.name+"_checksum") {
			l.fault(content.Attributes[m.name].Range, "No checksum", fmt.Sprintf(`What is fetched needs %s_checksum = "sha256:…".`, m.name))
		}
	}
}

// plainWords reports arguments of the kernel and a proxy that would be taken for
// something else.
func (l *loader) plainWords(given hcl.Attributes, i Install) {
	for _, argument := range i.Arguments {
		if argument == "" || strings.ContainsAny(argument, "\n\r\x00") {
			l.fault(given["arguments"].Expr.Range(), "Bad argument", fmt.Sprintf("arguments: %q is not one for a kernel's command line.", argument))
		}
	}
	if attr := given["mirror_proxy"]; attr != nil && i.MirrorProxy != "" {
		if u, err := url.Parse(i.MirrorProxy); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.ContainsAny(i.MirrorProxy, " \t\n'\"") {
			l.fault(attr.Expr.Range(), "Bad proxy", fmt.Sprintf(`mirror_proxy: %q is not the address of a proxy, such as "http://proxy.example.org:3128".`, i.MirrorProxy))
		} else if u.User != nil {
			l.fault(attr.Expr.Range(), "Bad proxy", "mirror_proxy: a password in the address would stand on the kernel's command line, and in the image.")
		}
	}
}

// answersMust is what the answers of an installer must hold, lest it waits for a
// person at its end, or does not know them for answers.
var answersMust = map[string]struct {
	pattern *regexp.Regexp
	why     string
}{
	"kickstart":   {regexp.MustCompile(`(?m)^\s*(?:poweroff|shutdown|reboot)\b`), "Without the command poweroff the installer waits for a person at its end."},
	"autoinstall": {regexp.MustCompile(`(?m)^autoinstall\s*:`), "They are cloud-config with the key autoinstall at the top."},
	"autoyast":    {regexp.MustCompile(`<profile[\s>]`), "They are an AutoYaST profile, XML with the element profile."},
}

// What of a kickstart is no command, and what takes commands from elsewhere.
var (
	kickstartSections  = regexp.MustCompile(`(?ms)^%(?:pre|post|packages|addon|onerror|traceback|anaconda|certificate).*?^%end[ \t]*$`)
	kickstartElsewhere = regexp.MustCompile(`(?m)^%(?:include|ksappend)\b`)
)

// answers reports what an installer could not work with.
func (l *loader) answers(attr *hcl.Attribute, i Install) {
	if attr == nil || l.blind { // who reads blindly has other answers
		return
	}
	must, ok := answersMust[i.Kind]
	switch {
	case strings.TrimSpace(i.Answers.Value) == "":
		l.fault(attr.Expr.Range(), "No answers", "The answers are empty: the installer would ask a person.")
	case i.Kind == "kickstart" && kickstartElsewhere.MatchString(i.Answers.Value): // it may stand there
	case ok && !must.pattern.MatchString(kickstartSections.ReplaceAllString(i.Answers.Value, "")):
		l.fault(attr.Expr.Range(), "Bad answers", must.why)
	}
}

// medium reads the address, or the path, of something that an image starts from.
func (l *loader) medium(attr *hcl.Attribute, text string, sumAttr *hcl.Attribute, sum string) Medium {
	var m Medium
	if attr != nil {
		var problem string
		if m.URL, problem = l.address(text); problem != "" {
			l.fault(attr.Expr.Range(), "Bad location", problem)
		}
	}
	if sumAttr != nil {
		var err error
		if m.Checksum, err = digest.ParseChecksum(sum); err != nil {
			l.fault(sumAttr.Expr.Range(), "Bad checksum", err.Error()+".")
		}
	}
	return m
}

// address makes a URL of an address or a path.
func (l *loader) address(text string) (address, problem string) {
	if text == "" || strings.ContainsAny(text, "\n\r\x00") {
		return "", fmt.Sprintf("%q is neither an address nor a path.", text)
	}
	scheme, _, isURL := strings.Cut(text, "://")
	if !isURL {
		return (&url.URL{Scheme: "file", Path: l.path(text)}).String(), ""
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" && scheme != "file":
		return "", fmt.Sprintf("%q is not a URL.", text)
	case scheme != "http" && scheme != "https" && scheme != "file":
		return "", fmt.Sprintf("%s: addresses are not known; http:, https: and file: are.", scheme)
	case u.User != nil:
		return "", "A password in an address would stand in the lock file and in logs."
	}
	return u.String(), ""
}

// ReservedFiles is where herdbook lays answers and scripts of its own into the
// initrds of installers.
var ReservedFiles = []string{
	"/preseed.cfg", "/ks.cfg", "/autoinst.xml",
	"/lib/debian-installer-startup.d/S11herdbook", "/usr/lib/finish-install.d/90herdbook", "/usr/lib/finish-install.d/99herdbook",
}

// initrdFiles lists and digests what is laid into an initrd.
func (l *loader) initrdFiles(attr *hcl.Attribute, files map[string]string) []InitrdFile {
	var list []InitrdFile
	for _, to := range slices.Sorted(maps.Keys(files)) {
		if slices.Contains(ReservedFiles, to) {
			l.fault(attr.Expr.Range(), "Bad path", fmt.Sprintf("files: %q is herdbook's own.", to))
			continue
		}
		if !path.IsAbs(to) || path.Clean(to) != to || to == "/" {
			l.fault(attr.Expr.Range(), "Bad path", fmt.Sprintf(`files: %q is not where a file can lie in the initrd; write it as "/late.sh".`, to))
			continue
		}
		list = append(list, InitrdFile{Path: to, Inputs: l.inputs(files[to], attr.Expr.Range())})
	}
	return list
}

// imported reads which disk image the image starts from.
func (l *loader) imported(b *hcl.Block, ctx *hcl.EvalContext) *Import {
	var raw struct {
		URL      string `hcl:"url,optional"`
		Path     string `hcl:"path,optional"`
		Checksum string `hcl:"checksum"`
		Format   string `hcl:"format,optional"`
	}
	content := l.content(b.Body, nil, &raw)
	given := l.decode(content, ctx, &raw)
	l.oneOf(given, "format", raw.Format, []string{"raw", "qcow2", "vmdk", "vhdx", "vdi"})
	if (content.Attributes["url"] == nil) == (content.Attributes["path"] == nil) {
		l.fault(b.DefRange, "No disk image", "Give either url or path.")
		return nil
	}
	attr, text := given["url"], raw.URL
	if attr == nil {
		attr, text = given["path"], raw.Path
	} else if !strings.Contains(text, "://") {
		l.fault(attr.Expr.Range(), "Bad location", fmt.Sprintf("%q is not a URL; give a file of this machine by path.", text))
	}
	return &Import{Medium: l.medium(attr, text, given["checksum"], raw.Checksum), Format: raw.Format}
}

// IsDisc tells whether a location is an ISO image.
func (m Medium) IsDisc() bool {
	u, err := url.Parse(m.URL)
	return err == nil && strings.EqualFold(filepath.Ext(u.Path), ".iso")
}

// IsLocal tells whether it lies on this machine.
func (m Medium) IsLocal() bool { return strings.HasPrefix(m.URL, "file:") }

// LocalPath is the path of what lies on this machine; "" for anything else.
func (m Medium) LocalPath() string {
	u, err := url.Parse(m.URL)
	if err != nil || u.Scheme != "file" {
		return ""
	}
	return u.Path
}

// size reads a number of bytes with its unit; 0 if it is none, which is reported.
func (l *loader) size(attr *hcl.Attribute, text string) int64 {
	m := sizeText.FindStringSubmatch(text)
	if m == nil {
		l.fault(attr.Expr.Range(), "Bad size", fmt.Sprintf(`%q is not a size; write it as "4G" or "4096M".`, text))
		return 0
	}
	// Six digits at most: no overflow.
	n, _ := strconv.ParseInt(m[1], 10, 64)
	return n << map[string]int{"M": 20, "G": 30, "T": 40}[m[2]]
}
