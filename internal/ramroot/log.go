package ramroot

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// kernelLog is what the kernel has said so far, a record each; none if it has no log.
func kernelLog() (records []string) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	record := make([]byte, 8<<10) // the kernel's bound of one
	for {
		n, err := unix.Read(fd, record)
		switch {
		case err == unix.EPIPE || err == unix.EINTR: // the next one was overwritten meanwhile
		case err != nil || n == 0: // that was all
			return records
		default:
			records = append(records, string(record[:n]))
		}
	}
}

// lackOfFirmware says which firmware drivers did not find, for a network card may not work
// without; "" if they lacked none. The second wording is Debian's.
func lackOfFirmware(log []string) string {
	var names []string
	for _, record := range log {
		for _, words := range []string{"Direct firmware load for ", "firmware: failed to load "} {
			if _, rest, ok := strings.Cut(record, words); ok {
				name, _, _ := strings.Cut(rest, " ")
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return "; drivers did not find the firmware " + strings.Join(names, ", ") + ": add the package that has it to the image"
}
