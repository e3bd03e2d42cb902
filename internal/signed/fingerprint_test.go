package signed

import (
	"bytes"
	"crypto"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"herdbook/internal/peer"
)

func TestParseFingerprint(t *testing.T) {
	const want = "0AB616ED3D7C3BAA3A76FFA818CF8FE667EA1278"
	for _, text := range []string{
		want, strings.ToLower(want), "0x" + want, " " + want + "\n", "0AB6 16ED 3D7C 3BAA 3A76  FFA8 18CF 8FE6 67EA 1278",
	} {
		if got, err := ParseFingerprint(text); got != want || err != nil {
			t.Errorf("%q: %q %v", text, got, err)
		}
	}
	for _, text := range []string{"", "67EA1278", "18CF8FE667EA1278", want[1:], want + "0", strings.Replace(want, "A", "G", 1), want + want} {
		if got, err := ParseFingerprint(text); err == nil {
			t.Errorf("%q is taken for %s", text, got)
		}
	}
}

// A fingerprint of any part of a key stands for the whole key, as it does for gpg.
func TestSelectTakesSubkeys(t *testing.T) {
	g := newGnuPG(t)
	g.generate("one", "ed25519", "", "never")
	g.generate("two", "ed25519", "", "never")
	primary := fingerprints(g, "one")[0]
	g.must("", "--batch", "--passphrase", "", "--quick-add-key", primary, "ed25519", "sign", "never")
	all := fingerprints(g, "one")
	if len(all) != 2 {
		t.Fatalf("%q", all)
	}
	keys, err := ReadKeys([]byte(g.must("", "--export")))
	peer.Must(t, err)
	message := []byte(g.must("text\n", "--local-user", all[1]+"!", "--clearsign"))
	for _, fingerprint := range all {
		some := Select(keys, []string{fingerprint})
		if got := Fingerprints(some); len(got) != 1 || got[0] != primary {
			t.Errorf("%s selects %q", fingerprint, got)
		}
		if _, err := VerifySole(message, some, time.Now()); err != nil {
			t.Errorf("%s: %v", fingerprint, err)
		}
	}
	others := Select(keys, fingerprints(g, "two"))
	if _, err := VerifySole(message, others, time.Now()); len(others) != 1 || err == nil {
		t.Errorf("another key verifies: %v", err)
	}
	if none := Select(keys, []string{strings.Repeat("0", 40)}); len(none) != 0 {
		t.Errorf("%q", Fingerprints(none))
	}
}

// fingerprints are those of a key and its subkeys.
func fingerprints(g gnupg, name string) []string {
	var list []string
	for _, line := range strings.Split(g.must("", "--with-colons", "--list-keys", name), "\n") {
		if f := strings.Split(line, ":"); f[0] == "fpr" {
			list = append(list, f[9])
		}
	}
	return list
}

// The signature of one key approves of nothing in the name of another.
func TestASecondSignatureIsRefusedWhereOneIsWanted(t *testing.T) {
	g := newGnuPG(t)
	one, _ := g.generate("one", "ed25519", "", "never")
	two, _ := g.generate("two", "ed25519", "", "never")
	g.generate("three", "ed25519", "", "never")
	keysOne, err := ReadKeys(one)
	peer.Must(t, err)
	keysTwo, err := ReadKeys(two)
	peer.Must(t, err)
	both := g.must("text\n", "--local-user", "one", "--local-user", "three", "--clearsign")
	// What others add does no harm where several may sign, as an archive's Release.
	if _, err := Verify([]byte(both), keysOne, time.Now()); err != nil {
		t.Error(err)
	}
	for name, keys := range map[string]Keys{"one": keysOne, "two": keysTwo, "any": append(keysOne, keysTwo...)} {
		if text, err := VerifySole([]byte(both), keys, time.Now()); err == nil || text != nil || !strings.Contains(err.Error(), "it has 2 signatures where 1 is wanted") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Verify([]byte(both), keysTwo, time.Now()); err == nil {
		t.Error("a key that has not signed it verifies it")
	}
	// Ours is broken, and that of another key is good.
	alone := g.must("text\n", "--local-user", "three", "--clearsign")
	if _, err := VerifySole([]byte(alone), keysOne, time.Now()); err == nil {
		t.Error("another key's signature verifies")
	}
}

func TestUntrusted(t *testing.T) {
	s := newSigner(t, "x")
	for text, want := range map[string]string{
		string(sign(t, s, "- a\nb \n")): "- a\nb\n",
		"[a]\n":                         "[a]\n",
		"":                              "",
	} {
		if got := string(Untrusted([]byte(text))); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// Anybody can make the public key of another a part of his own: its fingerprint must
// not stand for that.
func TestSelectTakesNoKeyThatAnotherHasTakenIn(t *testing.T) {
	theirs, mine := newSigner(t, "images").entity, newSigner(t, "images").entity
	config := &packet.Config{DefaultHash: crypto.SHA512, Time: func() time.Time { return noon }}
	stolen := *theirs.PrimaryKey
	stolen.IsSubkey = true
	for _, sub := range []*packet.PublicKey{&stolen, theirs.Subkeys[0].PublicKey} {
		binding := &packet.Signature{
			Version: 4, SigType: packet.SigTypeSubkeyBinding, PubKeyAlgo: mine.PrimaryKey.PubKeyAlgo, Hash: crypto.SHA512, CreationTime: noon,
			IssuerKeyId: &mine.PrimaryKey.KeyId, FlagsValid: true, FlagEncryptCommunications: true,
		}
		peer.Must(t, binding.SignKey(sub, mine.PrivateKey, config))
		mine.Subkeys = append(mine.Subkeys, openpgp.Subkey{PublicKey: sub, Sig: binding})
	}
	var text bytes.Buffer
	peer.Must(t, mine.Serialize(&text))
	keys, err := ReadKeys(text.Bytes())
	peer.Must(t, err)
	if len(keys) != 1 || len(keys[0].Subkeys) != 3 {
		t.Fatalf("%d keys: the forged one is not read", len(keys))
	}
	for _, of := range []*packet.PublicKey{theirs.PrimaryKey, theirs.Subkeys[0].PublicKey} {
		if some := Select(keys, []string{fmt.Sprintf("%X", of.Fingerprint)}); len(some) != 0 {
			t.Errorf("the fingerprint %X selects the key %q", of.Fingerprint, Fingerprints(some))
		}
	}
}
