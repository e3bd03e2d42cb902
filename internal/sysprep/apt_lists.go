package sysprep

import "errors"

// aptLists removes what apt knows of its repositories: old as soon as the image is,
// and the largest part of many images.
func aptLists(t *task) error {
	return errors.Join(t.root.RemoveFiles([]string{"/var/lib/apt/lists"}), t.root.Unlink("/var/cache/apt/*.bin"))
}
