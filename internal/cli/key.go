package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"herdbook/internal/volume"
)

// maxKeyFile is as much as cryptsetup takes of a key file, in bytes.
const maxKeyFile = 8 << 20

const keyUsage = "key of encrypted volumes, as UUID:file:PATH or UUID:env:NAME; all stands for any UUID; may be repeated"

var keySelector = regexp.MustCompile(`^(all|[0-9a-fA-F-]{36}):(file|env):(.+)$`)

// readKeys gets the keys of encrypted volumes from where selectors say. A file is taken
// whole and, if it ends with a new line, without that as well: both are in use.
func readKeys(selectors []string, lookupEnv func(string) (string, bool)) ([]volume.Key, error) {
	var keys []volume.Key
	for _, s := range selectors {
		m := keySelector.FindStringSubmatch(s)
		if m == nil {
			if id, _, ok := strings.Cut(s, ":key:"); ok {
				return nil, usageError{fmt.Sprintf("--key=%s:key:…: every process can read arguments; put the key into a file, or into the environment", id)}
			}
			return nil, usageError{"--key: want UUID:file:PATH or UUID:env:NAME, or all for the UUID"} // without what was given, which may be a key
		}
		id, from, name := m[1], m[2], m[3]
		if id == "all" {
			id = ""
		}
		if from == "env" {
			value, ok := lookupEnv(name)
			if !ok {
				return nil, usageError{fmt.Sprintf("--key: the environment has no %s", name)}
			}
			keys = append(keys, volume.Key{Volume: id, Passphrase: []byte(value)})
			continue
		}
		value, err := readKeyFile(name)
		if err != nil {
			return nil, err
		}
		keys = append(keys, volume.Key{Volume: id, Passphrase: value})
		if line, ok := bytes.CutSuffix(value, []byte("\n")); ok {
			keys = append(keys, volume.Key{Volume: id, Passphrase: line})
		}
	}
	return keys, nil
}

func readKeyFile(name string) (value []byte, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	value, err = io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(value) > maxKeyFile {
		err = fmt.Errorf("it has more than %d bytes", maxKeyFile)
	}
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", name, err)
	}
	return value, nil
}
