package inspection

import (
	"bytes"
	"errors"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"herdbook/internal/filesystem"
)

// maxText bounds the configuration files that are read, in bytes.
const maxText = 1 << 20

// fstabEntry is one line of fstab.
type fstabEntry struct {
	spec, dir, kind string
	options         []string
}

// parseFstab reads fstab and leaves out what is not on a disk.
func parseFstab(text []byte) []fstabEntry {
	var entries []fstabEntry
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		if len(fields) < 3 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		e := fstabEntry{spec: unescape(fields[0]), dir: unescape(fields[1]), kind: fields[2]}
		if len(fields) > 3 {
			e.options = strings.Split(unescape(fields[3]), ",")
		}
		if !strings.HasPrefix(e.dir, "/") || !e.onDisk() || slices.Contains(e.options, "noauto") {
			continue
		}
		e.dir = path.Clean(e.dir)
		entries = append(entries, e)
	}
	return entries
}

// unescape resolves the octal escapes of fstab(5).
func unescape(field string) string {
	var b strings.Builder
	for i := 0; i < len(field); i++ {
		if field[i] == '\\' && i+4 <= len(field) {
			if n, err := strconv.ParseUint(field[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(field[i])
	}
	return b.String()
}

// elsewhere are the types of file system that are on no local disk.
var elsewhere = []string{"swap", "none", "ignore", "tmpfs", "devtmpfs", "devpts", "proc", "sysfs", "cgroup", "cgroup2",
	"securityfs", "debugfs", "tracefs", "efivarfs", "mqueue", "hugetlbfs", "configfs", "bpf", "ramfs", "overlay",
	"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "9p", "virtiofs", "iso9660", "udf"}

func (e fstabEntry) onDisk() bool {
	switch {
	case slices.Contains(elsewhere, e.kind) || strings.HasPrefix(e.kind, "fuse"):
		return false
	case slices.Contains(e.options, "bind") || slices.Contains(e.options, "rbind") || slices.Contains(e.options, "_netdev"):
		return false
	}
	// A CD or a floppy that the installer noted.
	return !regexp.MustCompile(`^/dev/(sr|fd|cdrom|floppy|scd)`).MatchString(e.spec) && e.kind != "udf,iso9660"
}

func (e fstabEntry) mayFail() bool { return slices.Contains(e.options, "nofail") }

// mountOptions leaves those options that change what is seen of a file system.
func (e fstabEntry) mountOptions() string {
	var keep []string
	for _, o := range e.options {
		if strings.HasPrefix(o, "umask=") || strings.HasPrefix(o, "subvol") {
			keep = append(keep, o)
		}
	}
	return strings.Join(keep, ",")
}

// kernelName is how the kernel names partitions of a machine's first disk, which
// an image is. What a cloud adds as /dev/sdb is not on it.
var kernelName = regexp.MustCompile(`^/dev/(?:[shv]da|xvda|nvme0n1p|mmcblk\d+p)(\d+)$`)

// find finds the volume that an entry names.
func (e fstabEntry) find(volumes []fileSystem) (fileSystem, bool) {
	spec := strings.Trim(e.spec, `"`)
	for link, tag := range map[string]string{
		"/dev/disk/by-uuid/": "UUID=", "/dev/disk/by-label/": "LABEL=",
		"/dev/disk/by-partuuid/": "PARTUUID=", "/dev/disk/by-partlabel/": "PARTLABEL=",
	} {
		if rest, ok := strings.CutPrefix(spec, link); ok {
			spec = tag + rest
		}
	}
	tag, value, tagged := strings.Cut(spec, "=")
	value = strings.Trim(value, `"`)
	if tagged && value == "" {
		return fileSystem{}, false // it would be any volume that has none
	}
	for _, v := range volumes {
		match := false
		switch {
		case tagged && tag == "UUID":
			match = strings.EqualFold(v.uuid, value)
		case tagged && tag == "LABEL":
			match = v.label == value
		case tagged && tag == "PARTUUID":
			match = strings.EqualFold(v.Partition.ID, value)
		case tagged && tag == "PARTLABEL":
			match = v.Partition.Name == value
		default:
			m := kernelName.FindStringSubmatch(spec)
			match = m != nil && v.Source.Device == "" && strconv.Itoa(v.Partition.Number) == m[1]
			path, below := strings.CutPrefix(spec, "/dev/")
			match = match || below && slices.Contains(v.Paths, path)
		}
		if match {
			return v, true
		}
	}
	return fileSystem{}, false
}

// parseCrypttab reads the names of encrypted volumes, by UUID, out of crypttab(5).
func parseCrypttab(text []byte) map[string]string {
	names := map[string]string{}
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		for _, prefix := range []string{"UUID=", "/dev/disk/by-uuid/"} {
			if uuid, ok := strings.CutPrefix(fields[1], prefix); ok {
				names[strings.ToLower(strings.Trim(uuid, `"`))] = unescape(fields[0])
			}
		}
	}
	return names
}

func readRelease(tree fs.FS) (Release, error) {
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		text, err := filesystem.ReadFile(tree, name, maxText)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Release{}, err
		}
		return parseRelease(text), nil
	}
	return Release{}, errors.New("there is no etc/os-release")
}

// parseRelease reads os-release(5): assignments in the manner of a shell.
func parseRelease(text []byte) Release {
	var r Release
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		value = unquote(strings.TrimSpace(value))
		switch key {
		case "ID":
			r.ID = value
		case "VERSION_ID":
			r.VersionID = value
		case "VERSION_CODENAME":
			r.Codename = value
		case "PRETTY_NAME":
			r.PrettyName = value
		case "ID_LIKE":
			r.Like = strings.Fields(value)
		}
	}
	return r
}

func unquote(value string) string {
	if len(value) < 2 || value[0] != value[len(value)-1] || value[0] != '"' && value[0] != '\'' {
		return value
	}
	inner := value[1 : len(value)-1]
	if value[0] == '\'' {
		return inner
	}
	return regexp.MustCompile("\\\\([\\\\\"$`])").ReplaceAllString(inner, "$1")
}
