package sysprep

// blkidTab removes blkid's memory of this machine's disks. A link is the
// distribution's own, and leads to a tmpfs.
func blkidTab(t *task) error {
	names, err := t.root.Glob("{/var/run,/run/blkid,/etc/blkid,/etc}/blkid.tab{,.old}")
	if err != nil {
		return err
	}
	for _, name := range append(names, "/dev/.blkid.tab", "/dev/.blkid.tab.old") {
		if !t.root.IsFile(name) {
			continue
		}
		if err := t.root.RemoveAll(name); err != nil {
			return err
		}
	}
	return nil
}
