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
	for ending, text := range map[string]string{"ipxe": w.ipxe(), "grub.cfg": w.grub(), "pxelinux.cfg": w.pxelinux()} {
		if err := os.WriteFile(w.path(ending), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// ipxe is a script of iPXE. Where the firmware is UEFI, the kernel asks for its initrd by
// name.
func (w *work) ipxe() string {
	return fmt.Sprintf("#!ipxe\n\nkernel %s initrd=initrd %s\ninitrd --name initrd %s\nboot\n", w.address("vmlinuz"), w.CommandLine(), w.address("initrd"))
}

// grub is a configuration of GRUB, which knows no HTTPS, and HTTP only if it has its module
// for that. Without, it takes the files from the device that it has its configuration from.
func (w *work) grub() string {
	load := func(from string) (linux, initrd string) {
		return fmt.Sprintf("linux %s/%s %s", from, w.name("vmlinuz"), w.CommandLine()), fmt.Sprintf("initrd %s/%s", from, w.name("initrd"))
	}
	linux, initrd := load("")
	entry := fmt.Sprintf("\t%s\n\t%s\n", linux, initrd)
	if u, err := url.Parse(w.URL); err == nil && u.Scheme == "http" {
		overHTTP, itsInitrd := load(fmt.Sprintf("(http,%s)%s", u.Host, strings.TrimSuffix(u.Path, "/")))
		entry = fmt.Sprintf("\tinsmod http\n\tif %s; then\n\t\t%s\n\telse\n\t\t%s\n\t\t%s\n\tfi\n", overHTTP, itsInitrd, linux, initrd)
	}
	return fmt.Sprintf("set timeout=0\nmenuentry \"%s\" {\n%s}\n", w.image.Name, entry)
}

// pxelinux is a configuration of PXELINUX, which knows no HTTPS.
func (w *work) pxelinux() string {
	address := w.address
	if strings.HasPrefix(w.URL, "https:") {
		address = w.name
	}
	return fmt.Sprintf("DEFAULT %[1]s\nLABEL %[1]s\n\tKERNEL %[2]s\n\tINITRD %[3]s\n\tAPPEND %[4]s\n",
		w.image.Name, address("vmlinuz"), address("initrd"), w.CommandLine())
}
