package sysprep

import (
	"errors"
	"io/fs"
	"path"
	"slices"
)

// homes are the directories in which people have what is theirs: root's, those in
// /home, whoever they belong to, and those that passwd names, be they elsewhere.
func (t *task) homes() ([]string, error) {
	homes, err := t.root.Glob("/home/*")
	if err != nil {
		return nil, err
	}
	accounts, err := t.guest.Accounts()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	homes = append(homes, "/root")
	for _, a := range accounts {
		if path.IsAbs(a.Home) {
			homes = append(homes, path.Clean(a.Home))
		}
	}
	slices.Sort(homes)
	return slices.Compact(homes), nil
}

// removeInHomes removes names, which are no patterns, from every home.
func (t *task) removeInHomes(names ...string) error {
	homes, err := t.homes()
	if err != nil {
		return err
	}
	for _, home := range homes {
		if !t.root.Exists(home) {
			continue
		}
		for _, name := range names {
			if name = path.Join(home, name); !t.root.Exists(name) {
				continue
			}
			if err := t.root.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	return nil
}
