package signed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// GPGKey tells whether a signing key is the name of one that gpg keeps, and returns its
// fingerprint as gpg takes it.
func GPGKey(signingKey string) (fingerprint string, ok bool) {
	return strings.CutPrefix(strings.TrimSpace(signingKey), "gpg:")
}

// ErrNoGPG says that gpg is not installed.
var ErrNoGPG = errors.New("gpg is not installed: apt-get install gnupg")

// newGPGSigner signs with a key that gpg keeps: in its agent, on a card. gpg asks for
// a passphrase by its own ways.
func newGPGSigner(name string, now time.Time) (*Signer, error) {
	fingerprint, err := ParseFingerprint(name)
	if err != nil {
		return nil, fmt.Errorf("use signing key gpg:%.80s: %w", name, err)
	}
	public, err := gpg(nil, "--export", fingerprint)
	if err != nil {
		return nil, fmt.Errorf("use signing key gpg:%s: %w", fingerprint, err)
	}
	keys, err := ReadKeys(public)
	if len(public) == 0 || err == nil && len(keys) == 0 {
		err = errors.New("gpg has no such key; gpg --list-secret-keys tells which there are")
	}
	if err == nil {
		key, ok := keys[0].SigningKey(now)
		if !ok {
			err = errCannotSign
		} else {
			err = isFit(key.PublicKey)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("use signing key gpg:%s: %w", fingerprint, err)
	}
	return signerOf(keys[0], func(w io.Writer, text string, now time.Time) error {
		// By our clock, since what is signed is verified by that.
		signature, err := gpg(strings.NewReader(text), "--local-user", fingerprint, "--digest-algo", "SHA512",
			"--faked-system-time", fmt.Sprintf("%d!", now.Unix()), "--textmode", "--detach-sign", "--output", "-")
		if err == nil {
			_, err = w.Write(signature)
		}
		return err
	}), nil
}

// gpg runs gpg; in an error stands what it said.
func gpg(stdin io.Reader, args ...string) ([]byte, error) {
	path, err := exec.LookPath("gpg")
	if err != nil {
		return nil, ErrNoGPG
	}
	cmd := exec.Command(path, append([]string{"--batch"}, args...)...)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("gpg: %w: %s", err, strings.TrimSpace(said.String()))
	}
	return out.Bytes(), nil
}
