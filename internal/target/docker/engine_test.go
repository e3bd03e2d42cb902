package docker

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"herdbook/internal/peer"
)

// Docker's own engine loads the archive, layer by layer, runs it, and pulls the same image
// from a registry.
func TestVMTargetDocker(t *testing.T) {
	address := peer.Registry(t)
	o := newOutgoing(t, address+"/team/web:1")
	_, _, err := o.send(t.Context())
	peer.Must(t, err)
	docker := peer.Dockerd(t)
	docker("load", "--input", filepath.Join(o.dir, o.manifest.Main))
	in := func(image, script string) string {
		return docker("run", "--rm", "--network", "none", image, "/bin/sh", "-c", script)
	}
	got := in("small:latest", `cat /srv/role; stat -c ' %a %u:%g' /usr/bin/su /home/deploy/file; [ $(stat -c %i /srv/one) = $(stat -c %i /srv/two) ] && echo same inode; ls -l /dev/null`)
	for _, want := range []string{"role", " 4755 0:0\n", " 644 70000:33\n", "same inode", "crw-rw-rw-"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in:\n%s", want, got)
		}
	}
	type inspected struct {
		ID          string
		RepoTags    []string
		RepoDigests []string
		Config      struct{ Cmd []string }
		RootFS      struct{ Layers []string }
	}
	look := func(image string) inspected {
		var all []inspected
		peer.Must(t, json.Unmarshal([]byte(docker("image", "inspect", image)), &all))
		return all[0]
	}
	loaded := look("small:1")
	if len(loaded.RootFS.Layers) != 2 || !slices.Equal(loaded.Config.Cmd, []string{"/bin/sh"}) {
		t.Errorf("%+v", loaded)
	}
	docker("pull", "--quiet", address+"/team/web:1")
	if pulled := look(address + "/team/web:1"); pulled.ID != loaded.ID || !slices.Contains(pulled.RepoDigests, address+"/team/web@"+o.digest()) {
		t.Errorf("pulled: %+v, loaded: %+v, the manifest says %s", pulled, loaded, o.digest())
	}
}
