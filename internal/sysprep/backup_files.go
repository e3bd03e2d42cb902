package sysprep

import (
	"strings"

	"golang.org/x/sys/unix"
)

// backupFiles removes editors' backups: old settings, often with secrets that were
// then taken out. Other file systems of the guest are entered, links are not.
func backupFiles(t *task) error {
	for todo := []string{"/etc", "/root", "/srv", "/tmp", "/var"}; len(todo) > 0; todo = todo[1:] {
		top, err := t.root.Lstat(todo[0])
		if err != nil || !t.root.IsDir(todo[0]) {
			continue
		}
		err = t.root.Walk(todo[0], func(name string, st unix.Stat_t) error {
			switch kind := st.Mode & unix.S_IFMT; {
			case kind == unix.S_IFDIR && st.Dev != top.Dev:
				todo = append(todo, name) // a mount point, which Walk leaves alone
			case kind == unix.S_IFREG && (strings.HasSuffix(name, ".bak") || strings.HasSuffix(name, "~")):
				return t.root.RemoveAll(name)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
