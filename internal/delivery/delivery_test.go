package delivery

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/event"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/plan"
	"herdbook/internal/signed"
	"herdbook/internal/store"
	"herdbook/internal/target"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func clock() time.Time { return now }

// herd is a store with one layer that holds a small system, and a definition
// of where it goes.
type herd struct {
	Deliverer
	definition *definition.Definition
	image      definition.Image
	top        digest.Digest
	events     []string
}

func newHerd(t *testing.T) *herd {
	t.Helper()
	peer.NeedTool(t, "mke2fs", "qemu-img")
	tree := t.TempDir()
	program := peer.Busybox(t)
	for name, content := range map[string]string{
		"etc/os-release": "ID=debian\nVERSION_ID=12\nPRETTY_NAME=\"Debian 12\"\n", "etc/hosts": "", "bin/sh": string(program), // which tells the architecture
	} {
		peer.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(tree, name)), 0o755))
		peer.Must(t, os.WriteFile(filepath.Join(tree, name), []byte(content), 0o755))
	}
	raw := filepath.Join(t.TempDir(), "raw")
	peer.Run(t, "mke2fs", "-q", "-t", "ext4", "-d", tree, raw, "32M")
	s, err := store.Open(t.TempDir())
	peer.Must(t, err)
	w, err := s.Begin("")
	peer.Must(t, err)
	peer.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, w.DiskPath())
	layer, err := w.Commit(store.Layer{Key: store.Key(digest.Of([]byte("key"))), Image: "web", Step: "bootstrap", Created: now})
	peer.Must(t, err)
	key, err := signed.NewKey("test", now.Add(-time.Hour))
	peer.Must(t, err)
	out := t.TempDir()
	h := &herd{top: layer.Digest}
	h.Deliverer = Deliverer{Store: s, Now: func() time.Time { return now }, Sink: func(e event.Event) {
		if e.Kind == event.Progress {
			return
		}
		text := e.Text
		if e.Kind != event.ArtefactMade {
			text = ""
		}
		h.events = append(h.events, strings.TrimSpace(e.Step+" "+string(e.Kind)+" "+strings.ReplaceAll(text, out, "OUT")))
	}}
	formats := []string{"qcow2"}
	h.definition = &definition.Definition{Repositories: []definition.Repository{
		{Name: "signed", Path: filepath.Join(out, "signed"), SigningKey: op.Secret{Value: string(key)}, Formats: formats},
		{Name: "plain", Path: filepath.Join(out, "plain"), Unsigned: true, Formats: formats},
		{Name: "broken", Path: filepath.Join(out, "broken"), SigningKey: op.Secret{Value: "no key"}, Formats: formats},
	}}
	h.image = definition.Image{
		Name:    "web",
		Publish: []definition.Publish{{Repository: "signed", Name: "web-12", Channel: "stable"}, {Repository: "plain", Name: "web", Channel: "testing"}},
		Targets: []definition.Target{{Target: &target.Docker{Tags: []string{"web:latest"}, Formats: target.DockerFormats, SBOM: true}, Image: "web", Output: filepath.Join(out, "dist")}},
	}
	return h
}

func (h *herd) export(t *testing.T, top digest.Digest) error {
	return h.Export(t.Context(), []plan.Image{{Image: h.image}}, map[string]digest.Digest{h.image.Name: top})
}

// publish brings the image to its repositories.
func (h *herd) publish(t *testing.T) error {
	h.definition.Images = []definition.Image{h.image}
	return h.Publish(t.Context(), h.definition, h.image.Name, map[string]digest.Digest{h.image.Name: h.top})
}

// told returns what was reported since the last call.
func (h *herd) told() []string {
	events := h.events
	h.events = nil
	return events
}

func TestWhatIsDeliveredIsNotDeliveredAgain(t *testing.T) {
	h := newHerd(t)
	deliver := func() []string {
		peer.Must(t, errors.Join(h.publish(t), h.export(t, h.top)))
		return h.told()
	}
	made := []string{
		`publish "signed" started`, `publish "signed" phase`, `publish "signed" phase`, `publish "signed" phase`, `publish "signed" done`, `publish "signed" artefact web-12@1 (stable) in OUT/signed`,
		`publish "plain" started`, `publish "plain" phase`, `publish "plain" phase`, `publish "plain" phase`, `publish "plain" done`, `publish "plain" artefact web@1 (testing) in OUT/plain`,
		`target "docker" started`, `target "docker" phase`, `target "docker" phase`, `target "docker" phase`, `target "docker" done`,
		`target "docker" artefact web:latest in OUT/dist/web.docker.tar`,
	}
	if diff := cmp.Diff(made, deliver()); diff != "" {
		t.Error(diff)
	}
	there := []string{
		`publish "signed" cached`, `publish "signed" artefact web-12@1 (stable) in OUT/signed`,
		`publish "plain" cached`, `publish "plain" artefact web@1 (testing) in OUT/plain`,
		`target "docker" cached`, `target "docker" artefact web:latest in OUT/dist/web.docker.tar`,
	}
	if diff := cmp.Diff(there, deliver()); diff != "" {
		t.Error(diff)
	}
	// What is gone is made again, and nothing else.
	disks, err := filepath.Glob(filepath.Join(h.definition.Repositories[1].Path, "images", "web-*.qcow2"))
	if err != nil || len(disks) != 1 {
		t.Fatal(disks, err)
	}
	peer.Must(t, os.Remove(disks[0]))
	h.image.Targets[0].Target = &target.Docker{Tags: []string{"web:other"}, Formats: target.DockerFormats, SBOM: true}
	again := strings.Join(deliver(), "\n")
	for _, want := range []string{`publish "signed" cached`, `publish "plain" done`, `target "docker" done`, "web:other"} {
		if !strings.Contains(again, want) {
			t.Errorf("%q is not in\n%s", want, again)
		}
	}
}

// Of two herdbooks that deliver the same, one makes it.
func TestTwoAtOnceMakeItOnce(t *testing.T) {
	h := newHerd(t)
	var mu sync.Mutex
	told := map[event.Kind]int{}
	h.Sink = func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		told[e.Kind]++
	}
	ends := make(chan error)
	for range 2 {
		go func() { ends <- h.export(t, h.top) }()
	}
	peer.Must(t, errors.Join(<-ends, <-ends))
	if told[event.StepDone] != 1 || told[event.StepCached] != 1 {
		t.Errorf("it was told %v", told)
	}
}

func TestTheIndexTellsThePedigree(t *testing.T) {
	h := newHerd(t)
	peer.Must(t, h.publish(t))
	text, err := os.ReadFile(filepath.Join(h.definition.Repositories[0].Path, "index"))
	peer.Must(t, err)
	for _, want := range []string{"[web-12]\n", "name=Debian 12\n", "osinfo=debian12\n", "arch=x86_64\n", "size=33554432\n", " web: bootstrap (layer " + h.top.Short() + ")\n", "herdbook_layer=" + string(h.top)} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if _, err := os.Stat(filepath.Join(h.definition.Repositories[1].Path, "index.asc")); err == nil {
		t.Error("the unsigned repository has a signature")
	}
}

func TestAFailureNamesImageAndStepAndStopsNoOther(t *testing.T) {
	h := newHerd(t)
	h.image.Publish = append([]definition.Publish{{Repository: "broken", Name: "web", Channel: "stable"}}, h.image.Publish...)
	err := h.publish(t)
	var failure *Error
	if !errors.As(err, &failure) || failure.Image != "web" || failure.Step != `publish "broken"` || !strings.Contains(err.Error(), "signing key") {
		t.Errorf("the error: %v", err)
	}
	got := strings.Join(h.told(), "\n")
	for _, want := range []string{`publish "broken" started`, `publish "broken" failed`, `publish "signed" done`, `publish "plain" done`} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if _, err := os.Stat(h.definition.Repositories[2].Path); err == nil {
		t.Error("the repository without a key was begun")
	}
	// A layer that is not there.
	if err := h.export(t, digest.Of([]byte("none"))); !errors.Is(err, store.ErrNoLayer) {
		t.Errorf("the error: %v", err)
	}
}

func TestAnnounceAndSkip(t *testing.T) {
	h := newHerd(t)
	Announce(h.image, h.Sink)
	Skip(h.image, h.Sink)
	want := []string{
		`publish "signed" queued`, `publish "plain" queued`, `target "docker" queued`,
		`publish "signed" skipped`, `publish "plain" skipped`, `target "docker" skipped`,
	}
	if diff := cmp.Diff(want, h.told()); diff != "" {
		t.Error(diff)
	}
}
