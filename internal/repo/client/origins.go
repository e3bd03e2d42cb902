package client

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"herdbook/internal/event"
	"herdbook/internal/repo"
	"herdbook/internal/signed"
)

// Origins are the sources that virt-builder knows on this machine: those of the files
// *.conf in $XDG_CONFIG_HOME/virt-builder/repos.d, then in virt-builder/repos.d of each
// directory of $VIRT_BUILDER_DIRS, in order of their names. A file that could be read
// hides those of its name in later directories, a section those of its name. What
// cannot be read is left out with a notice.
func Origins(lookupEnv func(string) (string, bool), sink event.Sink) []Source {
	var list []Source
	read := map[string]bool{} // names of files
	for _, dir := range originDirs(lookupEnv) {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("read repositories: %v; going on without them", err)})
		}
		for _, e := range entries { // which are sorted
			if name := e.Name(); strings.HasSuffix(name, ".conf") && !read[name] {
				some, ok := originFile(filepath.Join(dir, name), sink)
				read[name] = ok
				list = append(list, some...)
			}
		}
	}
	taken := map[string]bool{}
	return slices.DeleteFunc(list, func(s Source) bool {
		again := taken[s.Name]
		taken[s.Name] = true
		return again
	})
}

func originDirs(lookupEnv func(string) (string, bool)) []string {
	var dirs []string
	if config, ok := lookupEnv("XDG_CONFIG_HOME"); ok && config != "" {
		dirs = append(dirs, config)
	} else if home, ok := lookupEnv("HOME"); ok && home != "" {
		dirs = append(dirs, filepath.Join(home, ".config"))
	}
	system, ok := lookupEnv("VIRT_BUILDER_DIRS")
	if !ok {
		system = "/etc"
	}
	for _, dir := range filepath.SplitList(system) {
		if dir != "" {
			dirs = append(dirs, dir)
		}
	}
	for i := range dirs {
		dirs[i] = filepath.Join(dirs[i], "virt-builder", "repos.d")
	}
	return dirs
}

// originFile reads one file; false if it could not be read at all.
func originFile(path string, sink event.Sink) ([]Source, bool) {
	notice := func(err error, left string) {
		sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("read repositories %s: %s; going on without %s", path, strings.ReplaceAll(err.Error(), "\n", "; "), left)})
	}
	text, err := os.ReadFile(path)
	if err != nil {
		notice(err, "it")
		return nil, false
	}
	origins, err := repo.ParseOrigins(text)
	if err != nil {
		notice(err, "that")
	}
	var list []Source
	for _, o := range origins {
		s := Source{Name: o.Name, URL: o.URI, Index: !o.Streams, Streams: o.Streams, Proxy: o.Proxy, KeyFile: o.KeyFile}
		if o.KeyFile != "" {
			if s.Keys, err = ReadKeyFile(o.KeyFile); err != nil {
				notice(fmt.Errorf("[%s]: %w", o.Name, err), "that")
				continue
			}
		}
		list = append(list, s)
	}
	return list, err == nil || len(list) > 0
}

// ReadKeyFile reads the public keys of a file.
func ReadKeyFile(path string) (signed.Keys, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	keys, err := signed.ReadKeys(text)
	if err == nil && len(keys) == 0 {
		err = errors.New("there is no key in it")
	}
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w; want a public key, as gpg --armor --export writes it", path, err)
	}
	return keys, nil
}
