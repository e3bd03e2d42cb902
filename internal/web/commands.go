package web

import (
	"cmp"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

// place is somewhere an image can be used, and how.
type place struct {
	ID, Name string
	Text     string
	Commands []command
}

// command is text to be copied.
type command struct {
	Label string // what it is for
	Text  string
}

const gib = 1 << 30

// places are how a revision is used where it can be.
func places(q *request, r *Revision, several bool) []place {
	// A name that begins with a hyphen would be an option.
	if strings.HasPrefix(r.ID, "-") || strings.HasPrefix(r.Image, "-") {
		return nil
	}
	list := []place{virtBuilder(q, r, several), ours(q, r, several)}
	if a, ok := r.artefact("qcow2"); ok {
		list = append(list, openStack(q.base, r, a), libvirt(q.base, r, a))
	}
	if boxes := r.boxes(); len(boxes) > 0 && len(r.channels()) > 0 {
		list = append(list, vagrant(q.base, r, boxes))
	}
	if _, ok := r.artefact("kernel"); ok {
		list = append(list, place{"ipxe", "iPXE", "The menu has every image that boots over the network.",
			[]command{{"In iPXE", "chain " + q.base + "/boot.ipxe"}}})
	}
	if a := r.Fetch(); a.File != "" {
		text := "Nothing but curl, sha512sum and gpg."
		list = append(list, place{"curl", "By hand", text, download(q.base, a)})
	}
	return list
}

func virtBuilder(q *request, r *Revision, several bool) place {
	id := repositoryID(q.base)
	config := "[" + id + "]\nuri=" + q.base + "/index.asc\n"
	var commands []command
	if q.repository.Fingerprint != "" {
		config += "gpgkey=file:///etc/virt-builder/repos.d/" + id + ".asc\n"
		commands = append(commands, command{"Once, as root: the key", "curl -fsS -o /etc/virt-builder/repos.d/" + id + ".asc " + quote(q.base+"/key.asc")})
	} else {
		config = strings.Replace(config, "/index.asc", "/index", 1)
	}
	commands = append(commands, command{"Once: in /etc/virt-builder/repos.d/" + id + ".conf", config})
	arch := ""
	if several {
		arch = " --arch " + quote(r.Arch)
	}
	// One GiB more than the image has, so that there is something to grow.
	size := max(1, (r.Size+gib-1)/gib) + 1
	build := fmt.Sprintf("virt-builder %s%s \\\n  --size %dG --format qcow2 --output %s", quote(r.ID), arch, size, quote(r.Image+".qcow2"))
	return place{"virt-builder", "virt-builder", "Any virt-builder reads this repository.", append(commands, command{"A machine's disk", build})}
}

// ours is herdbook itself: a download, and an image upon this one.
func ours(q *request, r *Revision, several bool) place {
	key, which, wanted := " \\\n  --unsigned", quote(r.Image), ""
	if !slices.Contains(r.channels(), "stable") {
		which, wanted = quote(fmt.Sprintf("%s@%d", r.Image, r.Number)), fmt.Sprintf("    revision = %d\n", r.Number)
	}
	if several {
		which += " --arch " + quote(r.Arch)
	}
	if q.repository.Fingerprint != "" {
		key = " \\\n  --fingerprint " + quote(strings.ToUpper(q.repository.Fingerprint))
	}
	pull := "herdbook pull " + which + " \\\n  --source " + quote(q.base+"/index.asc") + key
	trusted := "unsigned     = true"
	if q.repository.Fingerprint != "" {
		trusted = "fingerprints = [" + hclString(strings.ToUpper(q.repository.Fingerprint)) + "]"
	}
	id := hclString(repositoryID(q.base))
	template := fmt.Sprintf("repository %s {\n  url          = %s\n  %s\n}\n\nimage \"mine\" {\n  template %s {\n    name = %s\n%s  }\n}\n",
		id, hclString(q.base), trusted, id, hclString(r.Image), wanted)
	commands := []command{{"Download", pull}}
	if r.Arch == "x86_64" { // what definitions are for
		commands = append(commands, command{"In a definition", template})
	}
	return place{"herdbook", "herdbook", "Downloads resume, are verified as they come, and are kept.", commands}
}

func openStack(base string, r *Revision, a Artefact) place {
	create := fmt.Sprintf("openstack image create %s \\\n  --disk-format qcow2 --container-format bare \\\n  --min-disk %d --property architecture=%s \\\n  --file %s",
		quote(r.Image), (r.Size+gib-1)/gib, quote(r.Arch), quote(path.Base(a.File)))
	return place{"openstack", "OpenStack", "", []command{{"Download and create an image", fetch(base, a) + create}}}
}

func libvirt(base string, r *Revision, a Artefact) place {
	const dir = "/var/lib/libvirt/images/"
	system := "detect=on,require=off"
	if r.System != "" {
		system = r.System
	}
	disk := dir + r.Image + ".qcow2"
	text := fmt.Sprintf("curl -fL -o %s %s\nvirt-install --import --name %s --osinfo %s \\\n  --memory 2048 --vcpus 2 --disk %s,format=qcow2 --noautoconsole",
		quote(disk), quote(base+escaped("/"+a.File)), quote(r.Image), quote(system), quote("path="+disk))
	return place{"libvirt", "libvirt", "", []command{{"Download and start a machine", text}}}
}

// boxKind is what the kind of an artefact begins with that is a box for the provider of
// Vagrant whose name follows.
const boxKind = "box."

// boxes are the providers of Vagrant that there are boxes for.
func (r *Revision) boxes() []string {
	var providers []string
	for _, a := range r.Artefacts {
		if provider, ok := strings.CutPrefix(a.Kind, boxKind); ok {
			providers = append(providers, provider)
		}
	}
	return providers
}

// providerName is that of a provider of Vagrant as its makers write it.
func providerName(provider string) string {
	if provider == "virtualbox" {
		return "VirtualBox"
	}
	return provider
}

func vagrant(base string, r *Revision, providers []string) place {
	name := r.Image
	if channels := r.channels(); !slices.Contains(channels, "stable") {
		name += "-" + channels[0]
	}
	p := place{ID: "vagrant", Name: "Vagrant", Text: "Vagrant takes it from a catalogue, so vagrant box update finds later revisions."}
	for _, provider := range providers {
		text := "vagrant box add " + quote(base+"/vagrant/"+url.PathEscape(name)+".json") + " --provider " + quote(provider)
		p.Commands = append(p.Commands, command{"Add the box for " + providerName(provider), text})
	}
	return p
}

func fetch(base string, a Artefact) string {
	return "curl -fLO " + quote(base+escaped("/"+a.File)) + "\n"
}

// download is how a file is fetched and verified by hand: the index is signed and
// has the file's digest.
func download(base string, a Artefact) []command {
	file := quote(path.Base(a.File))
	return []command{
		{"Download", fetch(base, a)},
		{"Verify the file", fmt.Sprintf("echo %s | sha512sum --check", quote(a.SHA512+"  "+path.Base(a.File)))},
		{"Verify that the signed index has it", fmt.Sprintf(
			"curl -fsSO %s\ncurl -fsSO %s\ngpg --dearmor < key.asc > key.gpg\ngpgv --keyring ./key.gpg --output index index.asc \\\n  && grep -F \"$(sha512sum %s | cut -d ' ' -f 1)\" index",
			quote(base+"/key.asc"), quote(base+"/index.asc"), file)},
	}
}

// trust is how a reader sees that the index is signed with the key they know.
func trust(base string) []command {
	return []command{
		{"Look at the key", fmt.Sprintf("curl -fsSO %s\ngpg --show-keys --with-fingerprint key.asc", quote(base+"/key.asc"))},
		{"Verify the index", fmt.Sprintf("curl -fsSO %s\ngpg --dearmor < key.asc > key.gpg\ngpgv --keyring ./key.gpg index.asc", quote(base+"/index.asc"))},
	}
}

var notInID = regexp.MustCompile(`[^A-Za-z0-9]+`)

// repositoryID is a name for the repository in files of others, made of its host.
func repositoryID(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return "herdbook"
	}
	return cmp.Or(strings.Trim(notInID.ReplaceAllString(u.Hostname(), "-"), "-"), "herdbook")
}

var harmless = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=,-]+$`)

// quote writes a word so that a POSIX shell has it as it is.
func quote(word string) string {
	if word = oneLine(word); harmless.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// oneLine has no end of a line that would begin another command.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(plain(text), func(r rune) bool { return r == '\n' || r == '\t' }), " ")
}

// hclString writes a string of HCL, in which ${ and %{ would begin a template.
func hclString(text string) string {
	text = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "${", "$${", "%{", "%%{").Replace(oneLine(text))
	return `"` + text + `"`
}
