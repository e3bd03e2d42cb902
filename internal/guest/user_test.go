package guest

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

// withShadow gives the guest Debian's own account programs.
func (g *guestTest) withShadow(t testing.TB, programs ...string) {
	t.Helper()
	peer.Must(t, os.MkdirAll(filepath.Join(g.dir, "usr/lib/x86_64-linux-gnu"), 0o755))
	g.chroot(t, nil, programs...)
	for _, n := range []node{
		{path: "/etc/login.defs", content: "UID_MIN 1000\nUID_MAX 60000\nSYS_UID_MIN 100\nSYS_UID_MAX 999\nGID_MIN 1000\nGID_MAX 60000\nSYS_GID_MIN 100\nSYS_GID_MAX 999\nUSERGROUPS_ENAB yes\nHOME_MODE 0750\nENCRYPT_METHOD SHA512\n"},
		{path: "/etc/default/useradd", content: "SHELL=/bin/sh\nCREATE_MAIL_SPOOL=no\n"},
		{path: "/etc/skel/.bashrc", content: "# skeleton\n"}, {path: "/etc/subuid", content: "deploy:100000:65536\n"}, {path: "/etc/subgid", content: "deploy:100000:65536\n"},
	} {
		plant(t, g.dir, []node{n})
	}
}

var (
	// Backups and locks of the databases are the distribution's own affair.
	backups = regexp.MustCompile(`(?m)^[+-] /etc/(?:[a-z]+-|\.pwd\.lock) .*\n`)
	// Fields of shadow that hold a day after 2024.
	today = regexp.MustCompile(`(\\n[^:"]*:[^:"]*:|"root:[^:"]*:)2\d{4}:`)
)

// settled leaves out of a diff what is another one every day.
func settled(diff string) string {
	return today.ReplaceAllString(backups.ReplaceAllString(diff, ""), "${1}TODAY:")
}

func TestUserRunsTheGuestsOwnPrograms(t *testing.T) {
	for name, o := range map[string]*op.User{
		"new":             {Name: "martha"},
		"new-full":        {Name: "martha", UID: 1500, Group: "www-data", Groups: []string{"adm", "sudo"}, Shell: "/bin/sh", Home: "/srv/martha"},
		"new-system":      {Name: "backup-1", System: true},
		"there":           {Name: "deploy"},
		"there-same-uid":  {Name: "deploy", UID: 1000},
		"there-groups":    {Name: "deploy", Groups: []string{"sudo"}},
		"there-all":       {Name: "deploy", Group: "adm", Groups: []string{"sudo", "www-data"}, Shell: "/bin/bash", Home: "/srv/deploy"},
		"there-as-system": {Name: "daemon", System: true, Groups: []string{"adm"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			g.withShadow(t, "useradd", "usermod")
			got, err := g.changes(t, o)
			if err != nil {
				t.Fatalf("%v\n%s", err, strings.Join(g.lines("stderr"), "\n"))
			}
			peer.Golden(t, filepath.Join("user", name+".golden"), []byte(settled(got)))
		})
	}
}

func TestUserGivesExactArguments(t *testing.T) {
	g := newGuest(t)
	for want, o := range map[string]*op.User{
		"$ useradd --create-home --shell /bin/bash martha\n":                      {Name: "martha"},
		"$ useradd --create-home --uid 7 --gid 8 --shell /bin/sh martha\n":        {Name: "martha", UID: 7, Group: "8", Shell: "/bin/sh"},
		"$ useradd --create-home --system --shell /usr/sbin/nologin martha\n":     {Name: "martha", System: true},
		"$ useradd --create-home --groups a,b --shell /x --home-dir /h martha\n":  {Name: "martha", Groups: []string{"a", "b"}, Shell: "/x", Home: "/h"},
		"$ usermod --append --gid adm --groups a,b --shell /x --home /h deploy\n": {Name: "deploy", Group: "adm", Groups: []string{"a", "b"}, Shell: "/x", Home: "/h"},
		"$ usermod --shell /x deploy\n":                                           {Name: "deploy", Shell: "/x"},
		"":                                                                        {Name: "deploy", UID: 1000, System: true},
	} {
		r := &recorder{}
		g.Runner = r
		peer.Must(t, Apply(t.Context(), g.Guest, o))
		if r.String() != want {
			t.Errorf("%+v: %s, want %s", o, r, want)
		}
	}
}

func TestUserRefuses(t *testing.T) {
	g := newGuest(t)
	g.withShadow(t, "useradd", "usermod")
	g.refuse(t, &op.User{Name: "deploy", UID: 1234}, "user deploy has the number 1000 already, not 1234")
	err := Apply(t.Context(), g.Guest, &op.User{Name: "martha", Groups: []string{"no-such-group"}})
	var failure *Error
	if !errors.As(err, &failure) || failure.Status != 6 {
		t.Errorf("error %v, want useradd's status 6", err)
	}
	if got := g.lines("stderr"); len(got) != 1 || !strings.Contains(got[0], "no-such-group") {
		t.Errorf("standard error %q", got)
	}
}
