package guest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

// texts are what expressions are tried on.
var texts = []string{
	"Port 22\n#PermitRootLogin yes\n\nAllowUsers deploy\n",
	"no end of line",
	"",
	"\n\n",
	"a.b.c a+b (x) [y] {z} $HOME user@example.org 100% a|b\n/usr/local/bin:/usr/bin\nfoo\\bar 'q' \"qq\"\n",
	"dos\r\nlines\r\n\r\n",
	"Grün ÄÖÜ äöü ß é\n\xff\xfe bytes \x80\n",
	"tab\there  two\vvertical\fform \n  indented\n\ttabbed\n",
	"aaa abab aXbXc ABC abc Abc\nxx x xxx\n_under_ CamelCase 007 42\n",
}

// plainExpressions are those that are carried out here.
var plainExpressions = []string{
	`s/a/b/`, `s/a/b/g`, `s/A/b/gi`, `s/^/# /`, `s/$/;/`, `s/^#?(Port) .*/$1 2222/`, `s/^#\s*PermitRootLogin\s+\S+/PermitRootLogin no/`,
	`s,/usr/local,/opt,g`, `s|/usr|/opt|`, `s#/#\##g`, `s!a!\!!`, `s{a}{b}g`, `s{(a)(b)?} {<$2$1>}g`, `s(a)(b)`, `s[a.][b]`, `s<a><b>g`,
	`s/\//\\/g`, `s/a\.b/[$&]/`, `s/(a)(.)/\2\1/g`, `s/(\w+) (\w+)/${2}x$1/`, `s/x(y)?/<$1>/g`, `s/a/$3/`, `s/a/&/`, `s/a/\&\$\@\n\t\\/`,
	`s/a/b/;s/b/c/`, ` s/a/b/ ; s/b/c/g; `, "s/a/b/;\ns/c/d/", `s/a/x\ny/; s/y/z/`, `s/\$HOME/\/root/`, `s/user\@example/x\@y/`, `s/@ /x/`,
	`s/[abc]/-/g`, `s/[^abc\n]/-/g`, `s/[]]/x/`, `s/[^]]/x/`, `s/[[]/x/`, `s/[a-c.-]/x/g`, `s/[[:upper:]]+/U/g`, `s/[[:^digit:][:space:]]/./g`,
	`s/[\s.]/_/g`, `s/[-\s]/_/g`, `s/[\s-]/_/g`, `s/\S+/S/`, `s/\W/w/g`, `s/\D+/d/`, `s/[\w-]+/w/g`, `s/\bX|x\b/y/g`, `s/\Bb/y/g`, `s/\Aa/y/`, `s/e\z/y/`,
	`s/a{2}/y/`, `s/a{2,}/y/`, `s/a{1,2}/y/g`, `s/\{z\}/y/`, `s/}/y/`, `s/a+?/y/`, `s/a*?b/y/`, `s/(?:a|ab)(b|c)?/<$1>/g`, `s/(a|b)+/<$1>/`, `s/(?:(a)|b)+/<$1>/g`,
	`s/./x/`, `s/.$/x/`, `s/.+/x/g`, `s/.+/x/s`, `s/\n//`, `s/\n/ /g`, `s/\r\n/\n/`, `s/\r$//`, `s/^\s*$//`, `s/\s+$/\n/`, `s/^$/empty/`, `s/a|$/x/`, `s/(^|b)a/<$1>/g`,
	`s/ü/ue/g`, `s/[äöü]/x/g`, `s/é$/e/`, `s/\W+/-/g`, `s/x/ä/g`, `s/[^\w]/./g`, `s/^..//`, `s/0(\d)/$1/g`, `s/x/y/m`, `s/a/b/gims`, `s/\t/ /`, `s/\f/x/`, `s/:/,/`, `s:\::,:`,
	`s/a.c|x/$&$&/gs`, `s/%/%%/`, `s/'q'/"$&"/`, `s/(q+)/\1\1/g`, `s/a/#/`, `s/# *P/P/`, `s=a=b=g`, `s~a~b~`, `s%a%b%`, `s;a;b;`, `s@a@b@g`,
}

// perlExpressions need Perl, for something that the two engines do not share.
var perlExpressions = []string{
	`$_ = "" if $lineno == 1`, `tr/a-z/A-Z/`, `y/a/b/`, `s/a/b/ if /x/`, `s/a/b/; print "more\n"`, `s/(\w+)/\u$1/`, `s/a/b/e`, `s/(a)\1/x/`, `s/a(?=b)/x/g`,
	`s/(?i)a/x/`, `s/x*/-/g`, `s/\s*$//g`, `s/(a*)*/x/`, `s/(|a)+/<$1>/`, `s//x/`, `s/$x/y/`, `s/a/$x/`, `s/a/@x/`, `s/é/e/i`, `s/\x61/b/`, `s/a/\x62/`, `s/a/\l$&/`,
	`s/a++b/x/`, `s'a'$x'`, `s|a\|b|x|`, `s{a\{}{b}`, `s/[\s-z]/x/g`, `s/[+-\s]/x/`, `s/a/x\ny/; s/^y/z/`, `s/(a)/$1[0]/`, `s/(a)/$1->[0]/`, `s/a{,2}/x/`,
	`s/a/b/ # comment`, `s/a/b/, s/b/c/`, `s xaxbx`, `s/\h/x/`, `s/[$]/x/`, `s/a/b/r`, `s/ a /b/x`, `s/a/$0/ if 0`, `$lineno > 1 and s/a/b/`, `s/a/\62/`, `s {a} {b}`,
	`next if /a/; s/x/y/`, `s/(a)/\1[0]/`, `s/(a)/\1{1}/`, `s/@'/x/`, `s/a/@'/`,
}

func viaPerl(t *testing.T, expression, text string) string {
	t.Helper()
	c := exec.Command("perl", "-e", "$lineno = 0; while (<STDIN>) { $lineno++; "+expression+"\n; print $_ or die }")
	c.Stdin = strings.NewReader(text)
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("perl: %s: %v: %s", expression, err, &errs)
	}
	return string(out)
}

// Whatever is done without Perl gives the bytes that Perl gives.
func TestSubstitutionsAreThoseOfPerl(t *testing.T) {
	peer.NeedTool(t, "perl")
	for _, expression := range plainExpressions {
		list, err := parseSubstitutions(expression)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		for _, text := range texts {
			got, err := substitute([]byte(text), list)
			if err != nil {
				t.Errorf("%s on %q: %v", expression, text, err)
				continue
			}
			if want := viaPerl(t, expression, text); string(got) != want {
				t.Errorf("%s on %q: %q, Perl says %q", expression, text, got, want)
			}
		}
	}
}

func TestWhatIsForPerlGoesToPerl(t *testing.T) {
	for _, expression := range perlExpressions {
		list, err := parseSubstitutions(expression)
		for _, text := range texts {
			if err == nil {
				_, err = substitute([]byte(text), list)
			}
		}
		if !errors.Is(err, errPerl) {
			t.Errorf("%s: %v, want it left to Perl", expression, err)
		}
	}
}

// An expression that we take, of whatever bytes, does what Perl does.
func FuzzSubstitutions(f *testing.F) {
	for _, expression := range append(append([]string{}, plainExpressions...), perlExpressions...) {
		f.Add(expression, texts[4])
	}
	f.Fuzz(func(t *testing.T, expression, text string) {
		list, err := parseSubstitutions(expression)
		if err != nil {
			return
		}
		out, err := substitute([]byte(text), list)
		if err != nil {
			return
		}
		if len(list) == 1 && !list[0].pattern.MatchString(bytesToRunes(text)) && string(out) != text {
			t.Errorf("%q does not match %q and made %q of it", expression, text, out)
		}
	})
}

func TestEditKeepsAllButTheContent(t *testing.T) {
	g := newGuest(t, node{path: "/etc/secret.conf", mode: 0o4640, uid: 33, gid: 42, content: "Port 22\nport 22\n"})
	peer.Must(t, setLabel(filepath.Join(g.dir, "etc/secret.conf")))
	g.golden(t, "plain", &op.Edit{Path: "/etc/secret.conf", Expression: "s/^Port.*/Port 2222/"})
	g.golden(t, "through-link", &op.Edit{Path: "/etc/issue", Expression: "s/Debian/Herd/"})
	g.golden(t, "nothing-matches", &op.Edit{Path: "/etc/motd", Expression: "s/nothing//"})
}

func setLabel(name string) error {
	out, err := exec.Command("setfattr", "-n", "security.selinux", "-v", "system_u:object_r:etc_t:s0", name).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func TestEditByTheGuestsPerl(t *testing.T) {
	for name, expression := range map[string]string{
		"line-number": `$_ = "" if $lineno == 2`, "upper": `s/(\w+)/\U$1/`, "print": `print "before $_"`, "broken-in-two": `s/l/l\nx/; s/^x/y/`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, node{path: "/etc/x", mode: 0o640, gid: 4, content: "local one\nlocal two\n"})
			g.chroot(t, nil, "perl")
			g.golden(t, name, &op.Edit{Path: "/etc/x", Expression: expression})
			left, err := filepath.Glob(filepath.Join(g.dir, "tmp/herdbook*"))
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestEditRefuses(t *testing.T) {
	g := newGuest(t)
	g.refuse(t, &op.Edit{Path: "/nowhere", Expression: "s/a/b/"}, "no such file or directory")
	g.refuse(t, &op.Edit{Path: "/srv", Expression: "s/a/b/"}, "no regular file")
	g.refuse(t, &op.Edit{Path: "/etc/motd", Expression: "tr/a/b/"}, "the guest has no /usr/bin/perl, and only plain substitutions")
	g.refuse(t, &op.Edit{Path: "/etc/motd", Expression: "s/user@example.org/x/"}, `the sign itself is \@`)
	big := filepath.Join(g.dir, "srv/big")
	peer.Must(t, os.WriteFile(big, nil, 0o600))
	peer.Must(t, os.Truncate(big, maxFile+1))
	g.refuse(t, &op.Edit{Path: "/srv/big", Expression: "s/a/b/"}, "more than 16777216 bytes")
}

func TestAFailingPerlLeavesTheFile(t *testing.T) {
	g := newGuest(t)
	g.chroot(t, nil, "perl")
	for _, expression := range []string{"die 'stop'", "this is no perl (", "exit 3"} {
		g.refuse(t, &op.Edit{Path: "/etc/motd", Expression: expression}, "/usr/bin/perl ended with status")
	}
}

// A substitution cannot blow a file up without a bound.
func TestEditIsBounded(t *testing.T) {
	list, err := parseSubstitutions(strings.Repeat("s/(.*)/"+strings.Repeat("$1", 300)+"/;", 3))
	peer.Must(t, err)
	if _, err := substitute([]byte(strings.Repeat("x", 1000)), list); err == nil || !strings.Contains(err.Error(), "grows over") {
		t.Errorf("error %v", err)
	}
}
