package ramroot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// loadListed loads the modules that every machine needs.
func loadListed() error {
	text, err := os.ReadFile("/" + ModulesFile)
	if err != nil {
		return fmt.Errorf("read the list of modules: %w", err)
	}
	for name := range strings.FieldsSeq(string(text)) {
		if err := loadModule(name); err != nil {
			return err
		}
	}
	return nil
}

// loadModule loads one, by its name in the initrd. That it is there already, or that it is
// for hardware which is not there, is no error.
func loadModule(name string) error {
	image, err := os.ReadFile(path.Join("/", ModulesDir, name+".ko"))
	if err != nil {
		return fmt.Errorf("read module: %w", err)
	}
	if err := unix.InitModule(image, ""); err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("load module %s: %w", name, err)
	}
	return nil
}

// drivers are the modules for hardware, by the patterns of what that calls itself.
type drivers []driver

type driver struct {
	pattern string
	modules []string // what it needs first
}

func readDrivers() (drivers, error) {
	text, err := os.ReadFile("/" + DriversFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the list of drivers: %w", err)
	}
	return parseDrivers(string(text)), nil
}

func parseDrivers(text string) (list drivers) {
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 1 {
			list = append(list, driver{fields[0], fields[1:]})
		}
	}
	return list
}

// wanted are the modules for hardware that calls itself as given.
func (d drivers) wanted(hardware string) (modules []string) {
	for _, one := range d {
		if ok, err := path.Match(one.pattern, hardware); ok && err == nil {
			modules = append(modules, one.modules...)
		}
	}
	return modules
}

// load loads the drivers of the hardware that is there and was not there before. Drivers of
// buses bring more of it up.
func (d drivers) load(seen map[string]bool) error {
	for again := true; again; {
		again = false
		files, err := filepath.Glob("/sys/bus/*/devices/*/modalias")
		if err != nil {
			return err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			hardware := strings.TrimSpace(string(text))
			if err != nil || seen[hardware] {
				continue
			}
			seen[hardware] = true
			for _, name := range d.wanted(hardware) {
				again = true
				if err := loadModule(name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
