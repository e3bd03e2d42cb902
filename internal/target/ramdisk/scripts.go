package ramdisk

import (
	"fmt"
	"net/url"
	"os"
	"strings"
)

// address is where a file will be: under the url, or beside what names it.
func (w *work) address(ending string) string {
	if w.URL == "" {
		return w.name(ending)
	}
	return strings.TrimSuffix(w.URL, "/") + "/" + w.name(ending)
}

// writeScripts writes what boot loaders read.
func (w *work) writeScripts() error {
	words := w.CommandLine()
	for ending, text := range map[string]string{
		// Where the firmware is UEFI, the kernel asks for its initrd by name.
		"ipxe": fmt.Sprintf("#!ipxe\n\nkernel %s initrd=initrd %s\ninitrd --name initrd %s\nboot\n", w.address("vmlinuz"), words, w.address("initrd")),
		"grub.cfg": fmt.Sprintf("menuentry \"%s\" {\n\tlinux %s %s\n\tinitrd %s\n}\n",
			w.image.Name, grubPath(w.address("vmlinuz")), words, grubPath(w.address("initrd"))),
		"pxelinux.cfg": fmt.Sprintf("DEFAULT %[1]s\nLABEL %[1]s\n\tKERNEL %[2]s\n\tINITRD %[3]s\n\tAPPEND %[4]s\n",
			w.image.Name, w.address("vmlinuz"), w.address("initrd"), words),
	} {
		if err := os.WriteFile(w.path(ending), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// grubPath is an address as GRUB has it: (http,HOST)/PATH, or a path of the device that it
// has its configuration from. It knows no HTTPS.
func grubPath(address string) string {
	u, err := url.Parse(address)
	if err == nil && u.Scheme == "http" {
		return fmt.Sprintf("(http,%s)%s", u.Host, u.Path)
	}
	return "/" + address[strings.LastIndex(address, "/")+1:]
}
