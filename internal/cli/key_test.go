package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/peer"
	"herdbook/internal/volume"
)

func TestReadKeys(t *testing.T) {
	const uuid = "0f8fad5b-d9cb-469f-a165-70867728950e"
	env := func(name string) (string, bool) { return "from it", name == "KEY" }
	dir := t.TempDir()
	line, binary, large := filepath.Join(dir, "a:b"), filepath.Join(dir, "binary"), filepath.Join(dir, "large")
	peer.Must(t, errors.Join(os.WriteFile(line, []byte("word\n"), 0o600), os.WriteFile(binary, []byte("\x00\n\x01"), 0o600), os.WriteFile(large, nil, 0o600), os.Truncate(large, maxKeyFile+1)))
	got, err := readKeys([]string{"all:file:" + line, uuid + ":file:" + binary, uuid + ":env:KEY"}, env)
	want := []volume.Key{{Passphrase: []byte("word\n")}, {Passphrase: []byte("word")}, {Volume: uuid, Passphrase: []byte("\x00\n\x01")}, {Volume: uuid, Passphrase: []byte("from it")}}
	if err != nil || !cmp.Equal(want, got) {
		t.Errorf("%q, %v", got, err)
	}
	for selector, want := range map[string]string{
		"all:key:hunter2": "every process can read arguments", "hunter2": "want UUID:file:PATH", "/dev/sda2:file:x": "want UUID:file:PATH",
		"all:env:NONE": "the environment has no NONE", "all:file:" + dir + "/none": "read key: open", "all:file:" + large: "it has more than 8388608 bytes",
		"all:file:": "want UUID:file:PATH",
	} {
		_, err := readKeys([]string{selector}, env)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", selector, err)
		}
	}
}
