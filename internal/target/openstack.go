package target

import (
	_ "embed"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"herdbook/internal/op"
)

//go:embed openstack.sh
var openStackScript string

// OpenStack is an image for OpenStack's Nova and Ironic: a disk on which cloud-init makes
// each server what it is, and, if a cloud is named, its place in Glance.
type OpenStack struct {
	Format         string   `hcl:"format,optional" json:"format"`                     // qcow2, or raw for clouds that keep images in Ceph
	Datasources    []string `hcl:"datasources,optional" json:"datasources"`           // where cloud-init looks for its data, in this order
	QEMUGuestAgent bool     `hcl:"qemu_guest_agent,optional" json:"qemu_guest_agent"` // installed, and said to the cloud
	Console        string   `hcl:"console,optional" json:"console"`                   // serial console of the kernel line; "" leaves that alone

	Cloud      string            `hcl:"cloud,optional" json:"cloud"`   // a name in clouds.yaml; uploads
	Upload     bool              `hcl:"upload,optional" json:"upload"` // to the cloud that the environment names (OS_CLOUD, OS_AUTH_URL …)
	Name       string            `hcl:"name,optional" json:"name"`     // in the cloud; the default is the image's
	Visibility string            `hcl:"visibility,optional" json:"visibility"`
	Members    []string          `hcl:"members,optional" json:"members"` // projects that may use an image that is shared
	Tags       []string          `hcl:"tags,optional" json:"tags"`
	Properties map[string]string `hcl:"properties,optional" json:"properties"` // beside those that are found out, or in their place
	MinDisk    int               `hcl:"min_disk,optional" json:"min_disk"`     // GiB; the default is the size of the disk
	MinRAM     int               `hcl:"min_ram,optional" json:"min_ram"`       // MiB
	Protected  bool              `hcl:"protected,optional" json:"protected"`   // cannot be deleted while it has the name
	Import     string            `hcl:"import,optional" json:"import"`         // how Glance gets the bytes
	URL        string            `hcl:"url,optional" json:"url"`               // of the directory output, for web-download
	Rotate     string            `hcl:"rotate,optional" json:"rotate"`         // what becomes of the image that had the name: hide or rename
	Keep       *int              `hcl:"keep,optional" json:"keep"`             // so many old ones, the newest; nil: all
}

func newOpenStack(image string) Target {
	return &OpenStack{
		Format: "qcow2", Datasources: []string{"ConfigDrive", "OpenStack", "NoCloud", "None"}, Console: "ttyS0,115200",
		Name: image, Visibility: "private", Import: "direct", Rotate: "hide",
	}
}

// Kind implements Target.
func (*OpenStack) Kind() string { return "openstack" }

// Version implements Target.
func (*OpenStack) Version() int { return 1 }

// Variant implements Target: an image may go to several clouds.
func (o *OpenStack) Variant() string { return o.Cloud }

// Sends tells whether the image is uploaded.
func (o *OpenStack) Sends() bool { return o.Upload || o.Cloud != "" }

var (
	cloudName    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	datasource   = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`)
	consoleName  = regexp.MustCompile(`^tty[A-Za-z]+[0-9]+(,[0-9]+[noe]?[5-8]?r?)?$`)
	projectID    = regexp.MustCompile(`^[A-Za-z0-9-]+$`)
	propertyName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:-]*$`)
)

// ours are names of properties that say what made an image, by which it is found again.
const ours = "herdbook_"

// maxGlance bounds names, tags and values in Glance's database.
const maxGlance = 255

// Check implements Target.
func (o *OpenStack) Check() []op.Problem {
	var problems []op.Problem
	wrong := func(bad bool, field, hint, format string, args ...any) {
		if bad {
			problems = append(problems, op.Problem{Field: field, Message: fmt.Sprintf(format, args...), Hint: hint})
		}
	}
	oneOf := func(field, value string, all ...string) {
		wrong(!slices.Contains(all, value), field, "say one of "+strings.Join(all, ", "), "%q is none that is known", value)
	}
	oneOf("format", o.Format, "qcow2", "raw")
	oneOf("visibility", o.Visibility, "private", "shared", "community", "public")
	oneOf("import", o.Import, "direct", "glance-direct", "web-download")
	oneOf("rotate", o.Rotate, "hide", "rename")
	wrong(o.Console != "" && !consoleName.MatchString(o.Console), "console", "", `%q is no console such as "ttyS0,115200"`, o.Console)
	wrong(len(o.Datasources) == 0, "datasources", "leave it away for the usual ones", "there is none")
	for _, d := range o.Datasources {
		wrong(!datasource.MatchString(d), "datasources", "they have cloud-init's names, such as ConfigDrive", "%q is no datasource", d)
	}
	wrong(o.Cloud != "" && !cloudName.MatchString(o.Cloud), "cloud", "", "%q is no name of a cloud", o.Cloud)
	wrong(o.Cloud != "" && o.Upload, "upload", "say one of them", "the field cloud names one already, and upload wants the environment's")
	wrong(o.Name == "" || len(o.Name) > maxGlance, "name", "", "it has %d bytes, and wants one to %d", len(o.Name), maxGlance)
	wrong(len(o.Members) > 0 && o.Visibility != "shared", "members", `say visibility = "shared"`, "an image that is %s has none", o.Visibility)
	for _, m := range o.Members {
		wrong(!projectID.MatchString(m), "members", "openstack project show -c id NAME tells it", "%q is no ID of a project", m)
	}
	for _, t := range o.Tags {
		wrong(t == "" || len(t) > maxGlance, "tags", "", "a tag has %d bytes, and wants one to %d", len(t), maxGlance)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Properties)) {
		wrong(!propertyName.MatchString(name) || strings.HasPrefix(name, ours), "properties", "", "%q is no name for a property", name)
	}
	wrong(o.MinDisk < 0, "min_disk", "", "%d GiB are no size", o.MinDisk)
	wrong(o.MinRAM < 0, "min_ram", "", "%d MiB are no size", o.MinRAM)
	wrong(o.Keep != nil && *o.Keep < 0, "keep", "leave it away to keep all", "fewer than none cannot be kept")
	web := strings.HasPrefix(o.URL, "http://") || strings.HasPrefix(o.URL, "https://")
	wrong(o.Import == "web-download" && !web, "url", "say where Glance finds what lies in output", "web-download needs the address of a web server")
	wrong(o.Import != "web-download" && o.URL != "", "url", `say import = "web-download"`, "nothing fetches from there")
	return problems
}

// Adjustments implements Target.
func (o *OpenStack) Adjustments() []Adjustment {
	packages := func(growpart, ext4 string) string {
		names := "cloud-init " + growpart + " " + ext4
		if o.QEMUGuestAgent {
			names += " qemu-guest-agent"
		}
		return names
	}
	elsewhere := map[string]string{
		"zypper": packages("growpart", "e2fsprogs"), "apk": packages("cloud-utils-growpart", "e2fsprogs-extra"),
	}
	for _, manager := range []string{"dnf5", "dnf", "yum"} {
		elsewhere[manager] = packages("cloud-utils-growpart", "e2fsprogs")
	}
	return []Adjustment{
		{Name: "cloud-init", Network: true, Operation: &op.Packages{
			Install: strings.Fields(packages("cloud-guest-utils", "e2fsprogs")), Missing: true, Elsewhere: elsewhere,
		}},
		{Name: "openstack", Operation: &op.Run{Script: o.script()}},
	}
}

// script makes the image one that cloud-init configures.
func (o *OpenStack) script() string {
	agent := ""
	if o.QEMUGuestAgent {
		agent = "yes"
	}
	// None of the values has a character that means something to the shell.
	values := fmt.Sprintf("DATASOURCES='%s'\nCONSOLE='%s'\nAGENT='%s'\n", strings.Join(o.Datasources, ", "), o.Console, agent)
	return strings.Replace(openStackScript, "set -eu\n", "set -eu\n"+values, 1)
}
