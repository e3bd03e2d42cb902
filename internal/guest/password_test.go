package guest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"herdbook/internal/guest/guesttest"
	"herdbook/internal/op"
	"herdbook/internal/peer"
)

// withPAM lets chpasswd hash a password as Debian's configuration has it.
func (g *guestTest) withPAM(t testing.TB) {
	t.Helper()
	modules, err := filepath.Glob("/usr/lib/*/security/pam_unix.so")
	peer.Must(t, err)
	peer.Need(t, len(modules) > 0, "PAM's pam_unix.so is not installed")
	for _, name := range append(modules, strings.ReplaceAll(modules[0], "pam_unix", "pam_permit")) {
		guesttest.BringFile(t, g.dir, name, name)
	}
	plant(t, g.dir, []node{{path: "/etc/pam.d/chpasswd", content: "password required pam_unix.so sha512\nauth required pam_permit.so\naccount required pam_permit.so\n"}})
}

func TestPasswordChangesOneAccount(t *testing.T) {
	for name, o := range map[string]*op.Password{
		"hash":            {User: "root", Hash: "$y$j9T$salt$hash"},
		"hash-closed":     {User: "deploy", Hash: "*"},
		"locked":          {User: "deploy", Locked: true},
		"disabled":        {User: "deploy", Disabled: true},
		"locked-hash":     {User: "root", Hash: "$y$j9T$salt$hash", Locked: true},
		"locked-disabled": {User: "root", Disabled: true, Locked: true},
		"clear":           {User: "deploy", Password: op.Secret{Value: `pa:ss "wo'rd$\ ü`, Name: "PASSWORD"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			g.withShadow(t, "chpasswd", "usermod")
			g.withPAM(t)
			got, err := g.changes(t, o)
			if err != nil {
				t.Fatalf("%v\n%s", err, strings.Join(g.lines("stderr"), "\n"))
			}
			got = settled(got)
			if o.Password.Value != "" {
				hash := regexp.MustCompile(`deploy:(\$6\$[^:$]{8,16}\$[^:]{86}):`).FindStringSubmatch(got)
				if hash == nil {
					t.Fatalf("no hash in\n%s", got)
				}
				verifyPassword(t, o.Password.Value, hash[1])
				got = strings.Replace(regexp.MustCompile(`100640 0:42 \d+ ("root:[^\n]*)`+regexp.QuoteMeta(hash[1])).ReplaceAllString(got, "100640 0:42 SIZE ${1}HASH"), hash[1], "HASH", 1)
			}
			peer.Golden(t, filepath.Join("password", name+".golden"), []byte(got))
		})
	}
}

// A method that is asked for is used, whatever the distribution's own would be.
func TestPasswordCrypto(t *testing.T) {
	for crypto, prefix := range map[string]string{"md5": "$1$", "sha256": "$5$", "sha512": "$6$", "yescrypt": "$y$"} {
		t.Run(crypto, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			g.withShadow(t, "chpasswd")
			peer.Must(t, Apply(t.Context(), g.Guest, &op.Password{User: "deploy", Password: op.Secret{Value: "hunter2", Name: "P"}, Crypto: crypto}))
			text, err := g.Root.ReadFile("/etc/shadow")
			peer.Must(t, err)
			hash := regexp.MustCompile(`(?m)^deploy:([^:]+):`).FindStringSubmatch(string(text))
			if hash == nil || !strings.HasPrefix(hash[1], prefix) {
				t.Fatalf("hash %q, want one with %s", hash, prefix)
			}
			verifyPassword(t, "hunter2", hash[1])
		})
	}
}

// verifyPassword asks crypt(3), by way of perl, whether a hash is a password's.
func verifyPassword(t *testing.T, password, hash string) {
	t.Helper()
	peer.NeedTool(t, "perl")
	if got := peer.Run(t, "perl", "-e", "print crypt($ARGV[0], $ARGV[1])", password, hash); got != hash {
		t.Errorf("the hash %s is not the password's: %s", hash, got)
	}
}

// On a command line everybody could read it.
func TestPasswordPassesOnStandardInputOnly(t *testing.T) {
	g := newGuest(t)
	for want, o := range map[string]*op.Password{
		"$ chpasswd  environment [] stdin \"root:hunter2\\n\"\n":            {User: "root", Password: op.Secret{Value: "hunter2", Name: "P"}},
		"$ chpasswd --encrypted  environment [] stdin \"root:$6$a$b\\n\"\n": {User: "root", Hash: "$6$a$b"},
		"$ usermod --lock root\n":                                           {User: "root", Locked: true},
	} {
		r := &recorder{}
		g.Runner = r
		peer.Must(t, Apply(t.Context(), g.Guest, o))
		if r.String() != want {
			t.Errorf("%s, want %s", r, want)
		}
	}
}

func TestPasswordRefuses(t *testing.T) {
	g := newGuest(t)
	g.refuse(t, &op.Password{User: "martha", Locked: true}, `no account "martha"`)
	g.Runner = &recorder{failing: "chpasswd", fail: 1}
	g.refuse(t, &op.Password{User: "root", Password: op.Secret{Value: "hunter2", Name: "P"}}, "chpasswd ended with status 1")
	peer.Must(t, os.Remove(filepath.Join(g.dir, "etc/passwd")))
	g.refuse(t, &op.Password{User: "root", Locked: true}, "no such file or directory")
}
