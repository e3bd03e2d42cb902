package definition

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

// The golden files show secrets by name only, so that nothing else would tell
// whether the right values arrive.
func TestSecretsReachTheirFields(t *testing.T) {
	d, err := open(t, filepath.Join("good", "secrets")).load(t)
	if err != nil {
		t.Fatal(text(t, err))
	}
	got := map[string]string{"signing_key": d.Repositories[0].SigningKey.Value}
	for _, s := range d.Images[0].Steps {
		switch o := s.Operation.(type) {
		case *op.Password:
			got[s.Name] = o.Password.Value
		case *op.Run:
			for name, secret := range o.Environment {
				got[name] = secret.Value
			}
		}
	}
	want := map[string]string{
		"signing_key": "hunter2-key", "local": "hunter2-root", "literal": "in-clear", "trimmed": "HUNTER2-ROOT",
		"BOTH": "hunter2-token:hunter2-root", "ONE": "hunter2-token", "PART": "hunter2-json", "SUM": sum("hunter2-root"),
		"TEMPLATE": "token=hunter2-root hunter2-token\n", "WHOLE": "deploy:hunter2-json",
		"ORDER": "hunter2-tokenhunter2-roothunter2-key",
	}

	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestASigningKeyFileIsRead(t *testing.T) {
	d, err := open(t, filepath.Join("good", "every-field")).load(t)
	if err != nil {
		t.Fatal(text(t, err))
	}
	want := op.Secret{Name: "file keys/images.asc", Value: "-----BEGIN PGP PRIVATE KEY BLOCK-----\nprivate-key-material\n-----END PGP PRIVATE KEY BLOCK-----\n"}
	if got := d.Repositories[0].SigningKey; !cmp.Equal(got, want) {
		t.Errorf("the key is %q %q", got.Name, got.Value)
	}
}

// What lies in a file has a line end that is no part of a token.
func TestATokenFileIsReadWithoutItsLineEnd(t *testing.T) {
	d, err := open(t, filepath.Join("good", "repositories")).load(t)
	if err != nil {
		t.Fatal(text(t, err))
	}
	want := op.Secret{Name: "file keys/token", Value: "secret-in-a-file"}
	if got := d.Repositories[2].Token; !cmp.Equal(got, want) {
		t.Errorf("the token is %q %q", got.Name, got.Value)
	}
}

// Of answers that are a secret as a whole nothing is known in the second reading;
// that costs no other image the text around its own.
func TestSecretAnswersLeaveOthersTheirText(t *testing.T) {
	const image = `image "%s" {
  install "%s" {
    location = "http://mirror.invalid/os"
    answers  = %s
  }
}
`
	e := write(t, fmt.Sprintf(image, "a", "kickstart", `env("KICKSTART")`)+fmt.Sprintf(image, "b", "preseed", `"d-i x string ${env("TOKEN")}"`))
	e.options.LookupEnv = func(name string) (string, bool) {
		value, ok := map[string]string{"KICKSTART": "poweroff\n", "TOKEN": "hunter2"}[name]
		return value, ok
	}
	d, err := e.load(t)
	if err != nil {
		t.Fatal(text(t, err))
	}
	a, b := d.Images[0].Install.Answers, d.Images[1].Install.Answers
	if a.Around != "" || b.Around != "d-i x string ⟦env TOKEN ⟧" || !cmp.Equal(b.Parts, []string{"hunter2"}) {
		t.Errorf("%q, %q of %q", a.Around, b.Around, b.Parts)
	}
}

// A version that is raised must show, whatever the versions of the others are.
func TestEveryVersionOfAMixedSecretShows(t *testing.T) {
	seen := map[string]bool{}
	for _, versions := range [][3]string{{"1", "1", "2"}, {"2", "1", "2"}, {"1", "2", "2"}, {"1", "2", "1"}, {"2", "1", "1"}, {"", "1", "1"}} {
		e := write(t, base(`step "password" "p" {
  user     = "root"
  password = "${env("TOKEN", "`+versions[0]+`")}${env("ROOT_PASSWORD", "`+versions[1]+`")}${env("SIGNING_KEY", "`+versions[2]+`")}"
}`))
		d, err := e.load(t)
		if err != nil {
			t.Fatal(text(t, err))
		}
		s := d.Images[0].Steps[0].Operation.(*op.Password).Password
		if seen[s.String()] {
			t.Errorf("the versions %q show as %s, which others do too", versions, s)
		}
		seen[s.String()] = true
	}
}

// The text around a secret is known without its value, however it was put there.
func TestWhatStandsAroundASecretIsKnown(t *testing.T) {
	read := func(expression, value string) string {
		t.Helper()
		e := write(t, base(`step "password" "p" {
  user     = "root"
  password = `+expression+`
}`))
		e.options.LookupEnv = func(string) (string, bool) { return value, true }
		d, err := e.load(t)
		if err != nil {
			t.Fatal(text(t, err))
		}
		return d.Images[0].Steps[0].Operation.(*op.Password).Password.Around
	}
	if around := read(`env("TOKEN", "1")`, "hush"); around != "" {
		t.Errorf("around a secret alone stands %q", around)
	}
	seen := map[string]string{}
	for _, expression := range []string{
		`"a ${env("TOKEN")}"`, `"b ${env("TOKEN")}"`, `"${env("TOKEN")} a"`, `upper("a ${env("TOKEN")}")`, `"a ${base64encode(env("TOKEN"))}"`,
		`"a ${env("TOKEN")}${env("TOKEN")}"`, `join("-", ["a", env("TOKEN")])`,
	} {
		around := read(expression, "hush")
		if again := read(expression, "a"); again != around {
			t.Errorf("%s: around it stands %q for one value and %q for another", expression, around, again)
		}
		if strings.Contains(strings.ToLower(around), "hush") || around == "" {
			t.Errorf("%s: around it stands %q", expression, around)
		}
		if other, twice := seen[around]; twice {
			t.Errorf("%s and %s have the same around them", expression, other)
		}
		seen[around] = expression
	}
	// What needs the value cannot be read without it.
	if around := read(`regex("^[0-9]+$", env("TOKEN"))`, "42"); around != "" {
		t.Errorf("around it stands %q", around)
	}
}

// secret() is another name of env(), and secret_file() reads a file without the line
// ends at its end.
func TestEverySourceOfSecrets(t *testing.T) {
	for expression, want := range map[string]op.Secret{
		`secret("TOKEN")`:                  {Name: "TOKEN", Value: "hunter2"},
		`secret("TOKEN", "3")`:             {Name: "TOKEN", Version: "3", Value: "hunter2"},
		`secret_file("token")`:             {Name: "file:token", Value: "first second "},
		`secret_file("token", "2")`:        {Name: "file:token", Version: "2", Value: "first second "},
		`"Bearer ${secret_file("token")}"`: {Name: "file:token", Value: "Bearer first second ", Around: "Bearer ⟦env file:token ⟧"},
	} {
		e := write(t, base(`step "password" "p" {
  user     = "root"
  password = `+expression+`
}`))
		peer.Must(t, os.WriteFile(filepath.Join(e.dir, "token"), []byte("first second \r\n\n"), 0o600))
		e.options.LookupEnv = func(string) (string, bool) { return "hunter2", true }
		d, err := e.load(t)
		if err != nil {
			t.Fatal(text(t, err))
		}
		got := d.Images[0].Steps[0].Operation.(*op.Password).Password
		got.Parts = nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", expression, diff)
		}
	}
}

func TestSecretsThatAreNone(t *testing.T) {
	for expression, want := range map[string]string{
		`secret("NO")`:                       "the environment variable NO is not set",
		`secret_file("no")`:                  "read no: no such file or directory",
		`secret_file("a b")`:                 "hold neither spaces nor plus signs",
		`secret_file(secret("TOKEN"))`:       "its path and its version may not be secret",
		`secret_file("token", secret("NO"))`: "the environment variable NO is not set",
		`secret_file("token", "1", "2")`:     "want a path and perhaps a version",
		`file(secret_file("token"))`:         "",
		`secret_file("/dev/null")`:           "it is no regular file",
	} {
		e := write(t, base(`step "password" "p" {
  user     = "root"
  password = `+expression+`
}`))
		peer.Must(t, os.WriteFile(filepath.Join(e.dir, "token"), []byte("hunter2-token"), 0o600))
		e.options.LookupEnv = func(name string) (string, bool) { return "hunter2", name != "NO" }
		_, err := e.load(t)
		if err == nil || !strings.Contains(text(t, err), want) || strings.Contains(text(t, err), "hunter2") {
			t.Errorf("%s: %v", expression, err)
		}
	}
}
