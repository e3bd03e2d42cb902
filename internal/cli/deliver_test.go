package cli

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"herdbook/internal/definition"
	"herdbook/internal/peer"
	"herdbook/internal/target"
)

// What is made beside what was asked for: a publish needs the boxes of what it publishes.
func TestWhatIsWantedOfTargets(t *testing.T) {
	box := definition.Target{Target: &target.Vagrant{Provider: "virtualbox"}, Image: "web"}
	docker := definition.Target{Target: &target.Docker{}, Image: "web"}
	def := &definition.Definition{
		Repositories: []definition.Repository{{Name: "herd", Formats: []string{"qcow2", "vagrant"}}},
		Images:       []definition.Image{{Name: "web", Publish: []definition.Publish{{Repository: "herd"}}, Targets: []definition.Target{box, docker}}},
	}
	for name, c := range map[string]struct {
		order
		box, docker bool
	}{
		"build":              {order{deliver: true}, true, true},
		"publish web":        {order{publish: true, names: []string{"web"}}, true, false},
		"publish other":      {order{publish: true, names: []string{"other"}}, false, false},
		"export web docker":  {order{target: "docker", names: []string{"web"}}, false, true},
		"export web vagrant": {order{target: "vagrant", names: []string{"web"}}, true, false},
		"test web":           {order{names: []string{"web"}}, false, false},
	} {
		a := attempt{order: c.order, definition: def}
		if got := a.wants(box); got != c.box {
			t.Errorf("%s: the box: %v", name, got)
		}
		if got := a.wants(docker); got != c.docker {
			t.Errorf("%s: docker: %v", name, got)
		}
	}
}

// From a definition to a registry, with the account that Docker has kept.
func TestAnImageIsPushed(t *testing.T) {
	peer.NeedTool(t, "mke2fs", "qemu-img")
	const password = "hunter2-and-more"
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, given, ok := r.BasicAuth(); r.Method != http.MethodGet && (!ok || user != "me" || given != password) || r.URL.Path == "/v2/" && !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="herd"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	defer s.Close()
	address, dir := strings.TrimPrefix(s.URL, "http://"), t.TempDir()
	in := func(path ...string) string { return filepath.Join(append([]string{dir}, path...)...) }
	lay := func(name, text string) {
		peer.Must(t, os.MkdirAll(filepath.Dir(in(name)), 0o755))
		peer.Must(t, os.WriteFile(in(name), []byte(text), 0o755))
	}
	lay("tree/etc/os-release", "ID=debian\nVERSION_ID=12\n")
	lay("tree/etc/hosts", "")
	lay("tree/bin/sh", string(peer.Busybox(t)))
	peer.Run(t, "mke2fs", "-q", "-t", "ext4", "-d", in("tree"), in("disk.raw"), "32M")
	sum, _, _ := strings.Cut(peer.Run(t, "sha256sum", in("disk.raw")), " ")
	lay("docker/config.json", fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, address, base64.StdEncoding.EncodeToString([]byte("me:"+password))))
	lay("herdbook.hcl", fmt.Sprintf(`
image "web" {
  import {
    path     = "disk.raw"
    checksum = %q
  }
  target "docker" { push = ["%s/team/web:1.2"] }
}
`, sum, address))
	export := func(config string) (said string, status int) {
		var out bytes.Buffer
		status = Main(t.Context(), World{
			Args:  []string{"export", "web", "docker", "--file", dir, "--store", in("store"), "--progress", "plain"},
			Stdin: os.Stdin, Stdout: &out, Stderr: &out, Now: time.Now,
			LookupEnv: func(name string) (string, bool) { return config, name == "DOCKER_CONFIG" },
		})
		return out.String(), status
	}
	if said, status := export(in("none")); status != exitFailed || !strings.Contains(said, "docker login "+address) {
		t.Errorf("without an account: status %d\n%s", status, said)
	}
	if _, err := os.Stat(in("dist/web.docker.json")); err != nil {
		t.Errorf("what is whole is gone with the push: %v", err)
	}
	said, status := export(in("docker"))
	ref, err := name.NewTag(address + "/team/web:1.2")
	peer.Must(t, err)
	pushed, err := remote.Get(ref)
	if err != nil || status != exitDone || !strings.Contains(said, address+"/team/web:1.2@"+pushed.Digest.String()) || strings.Contains(said, password) {
		t.Errorf("status %d, %v\n%s", status, err, said)
	}
	if said, status := export(in("docker")); status != exitDone || strings.Contains(said, "push to") || !strings.Contains(said, `target "docker": cached`) {
		t.Errorf("the second time: status %d\n%s", status, said)
	}
}
