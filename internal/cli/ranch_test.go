//go:build long || targets

package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"herdbook/internal/peer"
	"herdbook/internal/store"
)

// ranch is a directory with a definition, and a store that begins with the base image.
type ranch struct {
	dir, store string
	secret     string
}

// run runs herdbook and returns its status, and what it said on both outputs.
func (r ranch) run(t *testing.T, args ...string) (status int, said string) {
	t.Helper()
	var out bytes.Buffer
	status = Main(t.Context(), World{
		Args: args, Stdin: os.Stdin, Stdout: io.MultiWriter(&out, t.Output()), Stderr: io.MultiWriter(&out, t.Output()), Now: time.Now,
		LookupEnv: func(name string) (string, bool) {
			if name == "CHALLENGE" {
				return r.secret, true
			}
			return os.LookupEnv(name)
		},
	})
	return status, out.String()
}

func (r ranch) build(t *testing.T, images ...string) (status int, said string) {
	t.Helper()
	return r.run(t, append([]string{"build", "--file", r.dir, "--store", r.store, "--progress", "plain", "--jobs", "2"}, images...)...)
}

// layer is the one that a step of an image has made.
func (r ranch) layer(t *testing.T, image, step string) (store.Layer, string) {
	t.Helper()
	records, err := filepath.Glob(filepath.Join(r.store, "layers", "*", "layer.json"))
	peer.Must(t, err)
	for _, record := range records {
		text, err := os.ReadFile(record)
		peer.Must(t, err)
		var l store.Layer
		peer.Must(t, json.Unmarshal(text, &l))
		if l.Image == image && l.Step == step {
			return l, filepath.Join(filepath.Dir(record), "disk.qcow2")
		}
	}
	t.Fatalf("there is no layer of %s of %s", step, image)
	return store.Layer{}, ""
}
