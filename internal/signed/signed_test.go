package signed

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/peer"
)

// noon is when the tests sign. gpg compares with its own clock, so it lies in
// the past.
var noon = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

// texts are what is hard to sign. The value is what a reader gets of it, if it
// is another: blanks at the ends of lines are not covered.
var texts = map[string]string{
	"a plain line\n":                 "",
	"no end of line":                 "no end of line\n",
	"":                               "\n",
	"\n":                             "",
	"\n\n\n":                         "",
	"an empty last line\n\n":         "",
	"\nan empty first line\n":        "",
	"-dash\n- dash and blank\n--\n-": "-dash\n- dash and blank\n--\n-\n",
	header + "\nHash: SHA512\n\nwithin\n-----BEGIN PGP SIGNATURE-----\n-----END PGP SIGNATURE-----\n": "",
	"From here\nFrom \n>From\n":                   "From here\nFrom\n>From\n",
	"blanks  \nand tabs\t \t\n":                   "blanks\nand tabs\n",
	" \n\t\n":                                     "\n\n",
	"notes=a\n \n b \n":                           "notes=a\n\n b\n",
	"one\r\ntwo \r\n\r\n":                         "one\ntwo\n\n",
	"ümläut \u2028 \U0001f404 \xff\xfe\x00\x01\n": "",
	strings.Repeat("long", maxLine/4) + "\n":      "",
}

func want(text string) string {
	if got := texts[text]; got != "" {
		return got
	}
	return text
}

func newSigner(t testing.TB, name string) *Signer {
	t.Helper()
	secret, err := NewKey(name, noon)
	peer.Must(t, err)
	s, err := NewSigner(secret, noon)
	peer.Must(t, err)
	return s
}

func sign(t testing.TB, s *Signer, text string) []byte {
	t.Helper()
	message, err := s.Sign([]byte(text), noon)
	peer.Must(t, err)
	return message
}

func publicKeys(t testing.TB, s *Signer) Keys {
	t.Helper()
	text, err := s.PublicKey()
	peer.Must(t, err)
	keys, err := ReadKeys(text)
	peer.Must(t, err)
	return keys
}

// clip is for error messages.
func clip(text string) string { return text[:min(len(text), 50)] }

func TestWhatIsSignedVerifies(t *testing.T) {
	s := newSigner(t, "herdbook images")
	for text := range texts {
		got, err := Verify(sign(t, s, text), publicKeys(t, s), noon)
		if err != nil || string(got) != want(text) {
			t.Errorf("%.50q: %.50q %v", text, got, err)
		}
	}
	// With the signer's own keys too, and years later.
	if _, err := Verify(sign(t, s, "x\n"), s.Keys(), noon.AddDate(20, 0, 0)); err != nil {
		t.Error(err)
	}
}

func TestSigningKeepsBlanksAtTheEndsOfLines(t *testing.T) {
	message := string(sign(t, newSigner(t, "x"), "notes=a\n \n b\n"))
	if !strings.HasPrefix(message, header+"\nHash: SHA512\n\nnotes=a\n \n b\n-----BEGIN PGP SIGNATURE-----\n") {
		t.Errorf("%s", message)
	}
}

func TestALineTooLongForGnuPGIsNotSigned(t *testing.T) {
	s := newSigner(t, "x")
	_, err := s.Sign([]byte("one\n"+strings.Repeat("x", maxLine+1)+"\n"), noon)
	if err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Error(err)
	}
}

func TestWhatWasChangedIsRefused(t *testing.T) {
	s := newSigner(t, "herdbook images")
	message := string(sign(t, s, "one\ntwo\n"))
	other := string(sign(t, newSigner(t, "herdbook images"), "one\ntwo\n"))
	body, signature, _ := strings.Cut(message, "-----BEGIN PGP SIGNATURE-----")
	signature = "-----BEGIN PGP SIGNATURE-----" + signature
	const (
		bad     = "bad signature"
		outside = "text outside the signature"
		none    = "not a clear-signed text"
	)
	for name, c := range map[string]struct{ text, want string }{
		"a letter":                {strings.Replace(message, "two", "tw0", 1), bad},
		"a line more":             {strings.Replace(message, "two\n", "two\nthree\n", 1), bad},
		"an empty line more":      {strings.Replace(message, "two\n", "two\n\n", 1), bad},
		"a line less":             {strings.Replace(message, "one\n", "", 1), bad},
		"blanks before":           {strings.Replace(message, "two", " two", 1), bad},
		"lines swapped":           {strings.Replace(message, "one\ntwo", "two\none", 1), bad},
		"another key":             {other, bad},
		"another text's":          {body + string(sign(t, s, "else\n"))[len(header)+len("\nHash: SHA512\n\nelse\n"):], bad},
		"text before":             {"evil=1\n" + message, outside},
		"a comment before":        {"#evil\n" + message, outside},
		"an empty line before":    {"\n" + message, outside},
		"a byte order mark":       {"\ufeff" + message, none},
		"text after":              {message + "evil=1\n", outside},
		"a message after":         {message + message, outside},
		"a message before":        {other + message, outside},
		"no signature":            {body, none},
		"an empty signature":      {body + "-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n", bad},
		"half a signature":        {message[:len(message)-60], none},
		"the signature alone":     {signature, none},
		"another header":          {strings.Replace(message, "Hash: SHA512", "Evil: text", 1), none},
		"text among the headers":  {strings.Replace(message, "Hash: SHA512\n", "Hash: SHA512\nevil=1\n", 1), none},
		"text behind the marker":  {strings.Replace(message, header, header+"evil", 1), none},
		"an unsigned text":        {"one\ntwo\n", none},
		"nothing":                 {"", none},
		"a signature of no bytes": {strings.Replace(message, signature, "-----BEGIN PGP SIGNATURE-----\n\n=AAAA\n-----END PGP SIGNATURE-----\n", 1), ""},
	} {
		got, err := Verify([]byte(c.text), publicKeys(t, s), noon)
		if err == nil || !strings.Contains(err.Error(), c.want) || got != nil {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	if _, err := Verify([]byte(message), nil, noon); err == nil {
		t.Error("it verifies without any key")
	}
	// A day before it was signed, the clock is wrong, or the signature.
	if _, err := Verify([]byte(message), publicKeys(t, s), noon.AddDate(0, 0, -1)); err == nil {
		t.Error("a signature of tomorrow is good")
	}
	// What the signature does not cover does not reach the reader.
	got, err := Verify([]byte(strings.Replace(message, "one", "one \t ", 1)), publicKeys(t, s), noon)
	if err != nil || string(got) != "one\ntwo\n" {
		t.Errorf("blanks behind: %q %v", got, err)
	}
}

// gnupg is a GnuPG home of a test.
type gnupg struct {
	t    testing.TB
	home string
}

func newGnuPG(t testing.TB) gnupg {
	t.Helper()
	peer.NeedTool(t, "gpg")
	// The path of the agent's socket must be short.
	home, err := os.MkdirTemp("", "gpg")
	peer.Must(t, err)
	g := gnupg{t, home}
	// Else the agent measures for seconds how often it can hash a passphrase.
	peer.Must(t, os.WriteFile(filepath.Join(home, "gpg-agent.conf"), []byte("s2k-count 65536\n"), 0o600))
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		peer.Must(t, os.RemoveAll(home))
	})
	return g
}

func (g gnupg) run(stdin string, args ...string) (string, error) {
	c := exec.Command("gpg", append([]string{"--homedir", g.home, "--batch", "--no-tty", "--pinentry-mode", "loopback"}, args...)...)
	c.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if err != nil {
		g.t.Logf("gpg %v: %s", args, errs.String())
	}
	return out.String(), err
}

func (g gnupg) must(stdin string, args ...string) string {
	g.t.Helper()
	out, err := g.run(stdin, args...)
	if err != nil {
		g.t.Fatal(err)
	}
	return out
}

// generate makes a key and returns the public and the secret one.
func (g gnupg) generate(name, algorithm, passphrase, expire string) (public, secret []byte) {
	g.t.Helper()
	g.must("", "--passphrase", passphrase, "--quick-generate-key", name, algorithm, "sign", expire)
	public = []byte(g.must("", "--armor", "--export", name))
	secret = []byte(g.must("", "--passphrase", passphrase, "--armor", "--export-secret-keys", name))
	return public, secret
}

func TestGnuPGVerifiesWhatWeSign(t *testing.T) {
	g := newGnuPG(t)
	signers := map[string]*Signer{"our own": newSigner(t, "herdbook images")}
	for _, algorithm := range []string{"rsa2048", "ed25519"} {
		_, secret := g.generate(algorithm+" signer", algorithm, "", "never")
		s, err := NewSigner(secret, time.Now())
		peer.Must(t, err)
		signers[algorithm] = s
	}
	for name, s := range signers {
		public, err := s.PublicKey()
		peer.Must(t, err)
		g.must(string(public), "--import")
		for text := range texts {
			now := time.Now()
			if name == "our own" {
				now = noon
			}
			message, err := s.Sign([]byte(text), now)
			peer.Must(t, err)
			status, err := g.run(string(message), "--status-fd", "1", "--verify", "-")
			if err != nil || !strings.Contains(status, "VALIDSIG "+s.Fingerprint()) {
				t.Errorf("%s, %.50q: gpg does not verify it: %v\n%s", name, text, err, status)
			}
			// What gpg gives back is the text; it, too, drops what is not covered.
			got, err := g.run(string(message), "--decrypt")
			if err != nil || trim(got) != trim(text) {
				t.Errorf("%s: gpg reads %.50q, want %.50q: %v", name, clip(got), clip(text), err)
			}
			if !strings.Contains(text, "two") {
				continue
			}
			if _, err := g.run(strings.Replace(string(message), "two", "tw0", 1), "--verify", "-"); err == nil {
				t.Errorf("%s: gpg verifies a changed text", name)
			}
		}
	}
}

// trim makes texts equal that differ only in what no signature covers.
func trim(text string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \t\r")
	}
	return strings.Join(lines, "\n")
}

func TestWeVerifyWhatGnuPGSigns(t *testing.T) {
	g := newGnuPG(t)
	for _, algorithm := range []string{"rsa2048", "ed25519"} {
		public, _ := g.generate(algorithm, algorithm, "", "never")
		keys, err := ReadKeys(public)
		peer.Must(t, err)
		binary, err := ReadKeys([]byte(g.must("", "--export", algorithm)))
		peer.Must(t, err)
		for text := range texts {
			if strings.ContainsAny(text, "\x00") {
				continue // no text to gpg
			}
			message := g.must(text, "--local-user", algorithm, "--clearsign")
			for _, keys := range []Keys{keys, binary} {
				got, err := Verify([]byte(message), keys, time.Now())
				if err != nil || trim(string(got)) != trim(text) {
					t.Errorf("%s: %.50q: %.50q %v", algorithm, text, got, err)
				}
			}
		}
		// A detached signature is another thing.
		if _, err := Verify([]byte(g.must("x\n", "--local-user", algorithm, "--armor", "--detach-sign")), keys, time.Now()); err == nil {
			t.Error("a detached signature verifies")
		}
	}
}

// elsewhere is a point in time for which gpg writes keys and signatures.
func elsewhere(g gnupg, at string) gnupg {
	peer.Must(g.t, os.WriteFile(filepath.Join(g.home, "gpg.conf"), []byte("faked-system-time "+at+"!\n"), 0o600))
	return g
}

func TestAnExpiredKeyNeitherSignsNorVerifies(t *testing.T) {
	g := elsewhere(newGnuPG(t), "20250601T120000")
	public, secret := g.generate("short-lived", "ed25519", "", "2025-06-10")
	message := g.must("one\ntwo\n", "--clearsign")
	keys, err := ReadKeys(public)
	peer.Must(t, err)
	for _, c := range []struct {
		days int
		ok   bool
	}{{1, true}, {20, false}} {
		now := noon.AddDate(0, 0, c.days)
		got, err := Verify([]byte(message), keys, now)
		if (err == nil) != c.ok || !c.ok && (!strings.Contains(err.Error(), "expired") || got != nil) {
			t.Errorf("verify after %d days: %q %v", c.days, got, err)
		}
		if _, err := NewSigner(secret, now); (err == nil) != c.ok || !c.ok && !strings.Contains(err.Error(), "expired") {
			t.Errorf("sign after %d days: %v", c.days, err)
		}
	}
	s, err := NewSigner(secret, noon.AddDate(0, 0, 1))
	peer.Must(t, err)
	if message, err := s.Sign([]byte("x\n"), noon.AddDate(0, 0, 20)); err == nil {
		t.Errorf("an expired key signs:\n%s", message)
	}
}

func TestARevokedKeyNeitherSignsNorVerifies(t *testing.T) {
	g := newGnuPG(t)
	public, secret := g.generate("revoked", "ed25519", "", "never")
	message := g.must("one\n", "--clearsign")
	certificates, _ := filepath.Glob(filepath.Join(g.home, "openpgp-revocs.d", "*.rev"))
	if len(certificates) != 1 {
		t.Fatal(certificates)
	}
	revocation, err := os.ReadFile(certificates[0])
	peer.Must(t, err)
	g.must(strings.Replace(string(revocation), ":-----BEGIN", "-----BEGIN", 1), "--import")
	revoked := []byte(g.must("", "--armor", "--export", "revoked"))
	for _, c := range []struct {
		key []byte
		ok  bool
	}{{public, true}, {revoked, false}} {
		keys, err := ReadKeys(c.key)
		peer.Must(t, err)
		if _, err := Verify([]byte(message), keys, time.Now()); (err == nil) != c.ok {
			t.Errorf("revoked is %v: %v", !c.ok, err)
		}
	}
	if _, err := NewSigner(secret, time.Now()); err != nil {
		t.Errorf("before it was revoked: %v", err)
	}
	secret = []byte(g.must("", "--armor", "--export-secret-keys", "revoked"))
	if _, err := NewSigner(secret, time.Now()); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("revoked: %v", err)
	}
}

// Of two machines one has the clock that is ahead.
func TestASignatureMayBeMadeByAClockThatIsAhead(t *testing.T) {
	s := newSigner(t, "images")
	text := sign(t, s, "text\n")
	for behind, want := range map[time.Duration]string{
		0: "", time.Second: "", time.Hour: "", 12 * time.Hour: "", 13 * time.Hour: "was made after", -1000 * time.Hour: "",
	} {
		_, err := Verify(text, s.Keys(), noon.Add(-behind))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v behind: %v, want %q", behind, err, want)
		}
	}
}

func TestUnfitSigningKeysAreRefused(t *testing.T) {
	g := newGnuPG(t)
	good, err := NewKey("x", noon)
	peer.Must(t, err)
	s, err := NewSigner(good, noon)
	peer.Must(t, err)
	public, err := s.PublicKey()
	peer.Must(t, err)
	_, locked := g.generate("locked", "ed25519", "secret", "never")
	cases := map[string]struct {
		key  []byte
		want string
	}{
		"public":     {public, "it is a public key; want the secret one"},
		"locked":     {locked, "it is locked with a passphrase; export one without"},
		"empty":      {nil, "there is no key in it"},
		"garbage":    {[]byte("garbage"), "want an OpenPGP secret key"},
		"an SSH key": {[]byte("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"), "want an OpenPGP secret key"},
		"half":       {good[:len(good)/2], "want an OpenPGP secret key"},
		"a message":  {sign(t, s, "x\n"), "want an OpenPGP secret key"},
	}
	const unknown = "do not know its kind; want RSA or Ed25519"
	for algorithm, want := range map[string]string{
		"nistp256": unknown, "brainpoolP256r1": unknown, "secp256k1": unknown, "dsa2048": unknown, "rsa1024": "its RSA key has less than 2048 bits",
	} {
		_, secret := g.generate(algorithm, algorithm, "", "never")
		cases[algorithm] = struct {
			key  []byte
			want string
		}{secret, want}
	}
	for name, c := range cases {
		if _, err := NewSigner(c.key, time.Now()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheFirstFitKeyOfSeveralSigns(t *testing.T) {
	g := newGnuPG(t)
	g.generate("one", "ed25519", "locked", "never")
	g.generate("two", "ed25519", "", "never")
	binary := g.must("", "--passphrase", "locked", "--export-secret-keys")
	s, err := NewSigner([]byte(binary), time.Now())
	peer.Must(t, err)
	want := g.must("", "--with-colons", "--list-keys", "two")
	if !strings.Contains(want, s.Fingerprint()) {
		t.Errorf("%s signs, want the key of\n%s", s.Fingerprint(), want)
	}
}

func TestAPublicKeyIsWrittenTheSameEachTime(t *testing.T) {
	s := newSigner(t, "x")
	one, err := s.PublicKey()
	peer.Must(t, err)
	sign(t, s, "x\n")
	two, err := s.PublicKey()
	if diff := cmp.Diff(string(one), string(two)); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if bytes.Contains(one, []byte("PRIVATE")) || !bytes.HasPrefix(one, []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n")) {
		t.Errorf("%s", one)
	}
}

func FuzzVerify(f *testing.F) {
	s := newSigner(f, "fuzz")
	f.Add(sign(f, s, "one\n- two\n"), "one\n- two\n")
	f.Add([]byte(header+"\n\n-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----"), "")
	for text := range texts {
		f.Add([]byte(text), clip(text))
	}
	f.Fuzz(func(t *testing.T, untrusted []byte, text string) {
		if got, err := Verify(untrusted, s.Keys(), noon); err == nil && string(got) != "one\n- two\n" {
			t.Errorf("verified, but never signed: %q", got)
		}
		message, err := s.Sign([]byte(text), noon)
		if err != nil {
			return // a line too long
		}
		got, err := Verify(message, s.Keys(), noon)
		if err != nil && !strings.Contains(text, "\r") || err == nil && trim(string(got)) != trim(text) {
			t.Errorf("%q comes back as %q: %v", text, got, err)
		}
	})
}

func FuzzReadKeys(f *testing.F) {
	secret, err := NewKey("fuzz", noon)
	peer.Must(f, err)
	public, err := newSigner(f, "fuzz").PublicKey()
	peer.Must(f, err)
	f.Add(secret)
	f.Add(public)
	f.Add([]byte("-----BEGIN PGP"))
	f.Add([]byte("\x99\x00\x33\x04"))
	f.Fuzz(func(t *testing.T, untrusted []byte) {
		if keys, err := ReadKeys(untrusted); err == nil {
			_, _ = Verify([]byte(header+"\n\n-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----"), keys, noon)
		}
		if s, err := NewSigner(untrusted, noon); err == nil {
			_, _ = s.Sign([]byte("x\n"), noon)
			_, _ = s.PublicKey()
		}
	})
}
