package sysprep

import "errors"

// packageManagerCache removes downloaded packages. Which manager the distribution
// uses need not be known: a cache that is there is one.
func packageManagerCache(t *task) error {
	dirs := []string{
		"/var/cache/apt/archives", "/var/cache/dnf", "/var/cache/libdnf5", "/var/cache/yum", "/var/cache/zypp", "/var/cache/PackageKit",
		"/var/cache/pacman/pkg", "/var/cache/apk", "/var/cache/xbps",
	}
	others, err := t.root.Glob("/var/cache/zypp?*")
	return errors.Join(err, t.root.RemoveFiles(append(dirs, others...)), t.root.Unlink("/var/cache/apt/*.bin"))
}
