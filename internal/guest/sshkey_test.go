package guest

import (
	"path/filepath"
	"syscall"
	"testing"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

func TestSSHKey(t *testing.T) {
	for name, o := range map[string]*op.SSHKey{
		"appended":  {User: "deploy", Keys: []string{deployKey}},
		"there":     {User: "deploy", Keys: []string{"ssh-rsa AAAA old@host", " " + deployKey + "\n", deployKey}},
		"first":     {User: "root", Keys: []string{deployKey}},
		"no-home":   {User: "ghost", Keys: []string{deployKey}},
		"home-link": {User: "linked", Keys: []string{deployKey}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, node{path: "/etc/passwd", content: passwd + "linked:x:1003:1003::/srv/home:/bin/sh\n"}, node{path: "/srv/home", link: "/opt"})
			g.golden(t, name, o)
		})
	}
}

// The account's owner could have laid them there to have root write elsewhere.
func TestSSHKeyRefusesLinksAndPipes(t *testing.T) {
	home := "/home/ghost"
	for name, n := range map[string]node{
		"directory": {path: home + "/.ssh", link: "/root"},
		"file":      {path: home + "/.ssh/authorized_keys", link: "/etc/passwd"},
		"dangling":  {path: home + "/.ssh/authorized_keys", link: "/etc/cron.d/mine"},
	} {
		t.Run(name, func(t *testing.T) {
			newGuest(t, n).refuse(t, &op.SSHKey{User: "ghost", Keys: []string{deployKey}}, "is a link or a device")
		})
	}
	g := newGuest(t, node{path: home + "/.ssh/", mode: 0o700, uid: 1002, gid: 1002})
	peer.Must(t, syscall.Mkfifo(filepath.Join(g.dir, home, ".ssh/authorized_keys"), 0o600))
	g.refuse(t, &op.SSHKey{User: "ghost", Keys: []string{deployKey}}, "is a link or a device")
	g.refuse(t, &op.SSHKey{User: "martha", Keys: []string{deployKey}}, `no account "martha"`)
}
