// Package ramroot is the first process of a machine whose root is in memory: it finds the
// root in the initrd or fetches it over HTTP, checks it, lays a writable layer of memory
// over it and starts the system in it; or, where the initrd itself is the root, it starts
// the system there. What goes wrong is said on the console, and ends the machine.
package ramroot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"herdbook/internal/digest"
)

// Where things are in an initrd.
const (
	Dir         = "etc/herdbook-init"      // of what is for this package, and goes with it
	ConfigFile  = Dir + "/root.json"       // a Config
	ModulesFile = Dir + "/modules"         // paths of modules, in the order in which they are loaded
	DriversFile = Dir + "/drivers"         // a line for each pattern of hardware, and behind it the modules that it needs
	ModulesDir  = Dir + "/modules.d"       // where the modules are
	RootFile    = "herdbook-root.squashfs" // the root, unless it is fetched
)

// What the kernel's command line may say.
const (
	// URLArgument names another place to fetch the root from. It must be the same root.
	URLArgument = "herdbook.root"
	// MeasureArgument lets the machine tell its memory, and end, where it would have
	// started the system.
	MeasureArgument = "herdbook.measure"
)

// Config says which root it is.
type Config struct {
	Digest     digest.Digest  `json:"digest,omitempty"` // of the squashfs; "" where the initrd is the root
	Size       int64          `json:"size,omitempty"`   // of the squashfs, in bytes
	URL        string         `json:"url,omitempty"`    // where it is fetched if it is not in the initrd
	Attributes []AttributeSet `json:"attributes,omitempty"`
}

// AttributeSet is the extended attributes of a file, which an initrd cannot have.
type AttributeSet struct {
	Path   string            `json:"path"` // below the root
	Values map[string][]byte `json:"values"`
}

// Run is the whole life of the process, which the kernel gives the words that it does not
// know. It returns only if it has failed.
func Run(words []string) {
	defer func() {
		if p := recover(); p != nil {
			complain(fmt.Errorf("it panicked, a bug of herdbook: %v", p))
		}
	}()
	complain(boot(words))
}

// Complaint begins the line of the console that says why there is no system.
const Complaint = "herdbook: the system cannot be started: "

// complain says why there is no system.
func complain(err error) { say(Complaint + err.Error()) }

// say says something on the console.
func say(text string) {
	console, err := os.OpenFile("/dev/console", os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		console = os.Stderr
	}
	fmt.Fprintf(console, "\n%s\n", text)
}

// boot ends in the system's own first process, or with an error.
func boot(words []string) error {
	if err := mountAll(); err != nil {
		return err
	}
	config, err := readConfig()
	if err != nil {
		return err
	}
	arguments, err := readArguments()
	if err != nil {
		return err
	}
	if config.Digest == "" {
		return startHere(config, arguments, words)
	}
	if err := loadListed(); err != nil {
		return err
	}
	path, err := findRoot(config, arguments)
	if err != nil {
		return err
	}
	if err := mountRoot(path); err != nil {
		return err
	}
	return start(sysroot, arguments, words)
}

// findRoot returns the path of the root, which is what it is to be: the one in the initrd,
// or else one that is fetched.
func findRoot(c Config, arguments map[string]string) (string, error) {
	if url := arguments[URLArgument]; url != "" {
		c.URL = url
	}
	path := "/" + RootFile
	err := checkFile(path, c)
	if !errors.Is(err, fs.ErrNotExist) || c.URL == "" {
		return path, err
	}
	return fetchRoot(c)
}

func readConfig() (c Config, err error) {
	text, err := os.ReadFile("/" + ConfigFile)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		return c, fmt.Errorf("read what root this is: %w", err)
	}
	return c, nil
}

// readArguments are the words of the kernel's command line; those without a value have
// their own name for one.
func readArguments() (map[string]string, error) {
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, fmt.Errorf("read the kernel's command line: %w", err)
	}
	return parseArguments(string(text)), nil
}

func parseArguments(line string) map[string]string {
	words := map[string]string{}
	for word := range strings.FieldsSeq(line) {
		name, value, ok := strings.Cut(strings.Trim(word, `"`), "=")
		if !ok {
			value = name
		}
		words[name] = value
	}
	return words
}

// Memory is what the kernel says of the machine's memory, in bytes.
type Memory struct {
	Total, Available int64
}

// memoryLine is what a machine that is measured says.
const memoryLine = "herdbook: memory total=%d available=%d"

// ParseMemory reads the line of a console by which a machine tells its memory.
func ParseMemory(line string) (m Memory, ok bool) {
	n, _ := fmt.Sscanf(strings.TrimSpace(line), memoryLine, &m.Total, &m.Available)
	return m, n == 2
}

func readMemory() (m Memory, err error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return m, fmt.Errorf("measure the memory: %w", err)
	}
	return parseMeminfo(string(text))
}

func parseMeminfo(text string) (m Memory, err error) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		kib, err := strconv.ParseInt(fields[1], 10, 64)
		switch {
		case err != nil:
			continue
		case fields[0] == "MemTotal:":
			m.Total = kib << 10
		case fields[0] == "MemAvailable:":
			m.Available = kib << 10
		}
	}
	if m.Total == 0 {
		return m, errors.New("measure the memory: the kernel does not tell it")
	}
	return m, nil
}
