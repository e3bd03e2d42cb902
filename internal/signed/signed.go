// Package signed signs texts and verifies signed ones, in the form that
// OpenPGP calls the cleartext signature framework (RFC 9580, section 7), which
// gpg, apt and virt-builder read; and verifies texts whose signature lies beside
// them. What a text means is left to others.
package signed

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	pgp "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

const header = "-----BEGIN PGP SIGNED MESSAGE-----"

// ErrUnknownKey is wrapped by the error of a signature that none of the keys made.
var ErrUnknownKey = pgp.ErrUnknownIssuer

// Keys are public keys that a signature is held against.
type Keys = openpgp.EntityList

// ReadKeys reads public keys, armoured or not.
func ReadKeys(text []byte) (Keys, error) {
	read := openpgp.ReadKeyRing
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("-----BEGIN PGP")) {
		read = openpgp.ReadArmoredKeyRing
	}
	return read(bytes.NewReader(text))
}

// Verify returns the text of a clear-signed message that one of keys signed and
// that was valid at the time now, or was made within half a day after it by another
// clock. The text is what the signature covers, and nothing else: lines end in LF, and
// blanks at their ends, which it does not cover, are gone. A message with anything
// before or behind it is refused.
func Verify(untrusted []byte, keys Keys, now time.Time) ([]byte, error) {
	return verify(untrusted, keys, now, 0)
}

// VerifySole is Verify for a text that is to have one signature only.
func VerifySole(untrusted []byte, keys Keys, now time.Time) ([]byte, error) {
	return verify(untrusted, keys, now, 1)
}

// verify takes a message with at most so many signatures; 0 does not say.
func verify(untrusted []byte, keys Keys, now time.Time, most int) ([]byte, error) {
	block, rest := clearsign.Decode(untrusted)
	if block == nil {
		return nil, errors.New("it is not a clear-signed text")
	}
	// clearsign.Decode skips text before the header in silence.
	if !bytes.HasPrefix(untrusted, []byte(header)) || len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("there is text outside the signature")
	}
	signature, err := io.ReadAll(block.ArmoredSignature.Body)
	if err != nil {
		return nil, fmt.Errorf("read its signature: %w", err)
	}
	if n, err := count(signature); most > 0 && (err != nil || n > most) {
		return nil, errors.Join(fmt.Errorf("it has %d signatures where %d is wanted", n, most), err)
	}
	if err := check(bytes.NewReader(block.Bytes), signature, keys, now); err != nil {
		return nil, err
	}
	return plain(block), nil
}

// plain is the text of a message, as Verify returns it.
func plain(block *clearsign.Block) []byte {
	return append(bytes.ReplaceAll(block.Bytes, []byte("\r\n"), []byte("\n")), '\n')
}

// blanks are what a signature does not cover.
var blanks = regexp.MustCompile(`(?m)[ \t\r]+$`)

// Covered is what a signature covers of a text with lines that end in LF: all but the
// blanks at their ends.
func Covered(text []byte) []byte { return blanks.ReplaceAll(text, nil) }

// count counts signatures that are not armoured.
func count(signature []byte) (n int, err error) {
	for packets := packet.NewReader(bytes.NewReader(signature)); ; n++ {
		if _, err := packets.Next(); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n + 1, err
		}
	}
}

// Untrusted returns the text of a message without verifying anything, and what is no
// clear-signed message as it is.
func Untrusted(text []byte) []byte {
	if block, _ := clearsign.Decode(text); block != nil {
		return plain(block)
	}
	return text
}

// VerifyDetached checks that one of keys signed text, and that the signature, which
// may be armoured, was valid at the time now.
func VerifyDetached(text, signature []byte, keys Keys, now time.Time) error {
	return VerifyBeside(bytes.NewReader(text), signature, keys, now)
}

// VerifyBeside is VerifyDetached for a text that is too large for the memory. The text
// is read to its end.
func VerifyBeside(text io.Reader, signature []byte, keys Keys, now time.Time) error {
	if bytes.HasPrefix(bytes.TrimSpace(signature), []byte("-----BEGIN PGP")) {
		block, err := armor.Decode(bytes.NewReader(signature))
		if err == nil && block.Type != openpgp.SignatureType {
			err = fmt.Errorf("it is a %s", block.Type)
		}
		if err == nil {
			signature, err = io.ReadAll(block.Body)
		}
		if err != nil {
			return fmt.Errorf("read the signature: %w", err)
		}
	}
	return check(text, signature, keys, now)
}

// check checks a signature that is not armoured.
func check(text io.Reader, signature []byte, keys Keys, now time.Time) error {
	config := &packet.Config{Time: func() time.Time { return moment(signature, now) }}
	_, err := openpgp.CheckDetachedSignature(keys, text, bytes.NewReader(signature), config)
	if errors.Is(err, pgp.ErrSignatureExpired) || errors.Is(err, pgp.ErrKeyExpired) {
		err = fmt.Errorf("%w, or was made after %s, the time by this machine's clock", err, now.UTC().Format(time.RFC3339))
	}
	if err != nil {
		return fmt.Errorf("bad signature: %w", err)
	}
	return nil
}

// ahead is how far the clock of who signs may be ahead of ours, or what we have done
// since we looked at it: an upload takes its time.
const ahead = 12 * time.Hour

// moment is the time that signatures are held against: now, or when the last of them
// was made, if that is not far ahead.
func moment(signature []byte, now time.Time) time.Time {
	at := now
	for packets := packet.NewReader(bytes.NewReader(signature)); ; {
		p, err := packets.Next()
		if err != nil { // which checking tells of
			return at
		}
		if s, ok := p.(*packet.Signature); ok && s.CreationTime.After(at) && s.CreationTime.Sub(now) <= ahead {
			at = s.CreationTime
		}
	}
}

// Signer signs with a secret key.
type Signer struct {
	entity *openpgp.Entity
	detach func(w io.Writer, text string, now time.Time) error // writes a signature of a text
	public func() ([]byte, error)
}

// signerOf makes a signer, which several may use at once. To write a key down changes
// it, in the library's eyes, so that is done once.
func signerOf(entity *openpgp.Entity, detach func(io.Writer, string, time.Time) error) *Signer {
	return &Signer{entity, detach, sync.OnceValues(func() ([]byte, error) {
		return armoured(openpgp.PublicKeyType, entity.Serialize)
	})}
}

// NewSigner reads a secret key, armoured or not, that gpg 2.2 and virt-builder
// can verify with: a v4 key of RSA or Ed25519, without a passphrase, that is
// neither revoked nor expired at the time now. Or it takes the name of a key that gpg
// keeps, on whatever: gpg:FINGERPRINT.
func NewSigner(secretKey []byte, now time.Time) (*Signer, error) {
	if name, ok := GPGKey(string(secretKey)); ok {
		return newGPGSigner(name, now)
	}
	keys, err := ReadKeys(secretKey)
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w; want an OpenPGP secret key, as gpg --armor --export-secret-keys writes it", err)
	}
	for _, entity := range keys {
		key, ok := entity.SigningKey(now)
		switch {
		case !ok:
			err = errCannotSign
		case key.PrivateKey == nil:
			err = errors.New("it is a public key; want the secret one")
		case key.PrivateKey.Encrypted:
			err = errors.New("it is locked with a passphrase; export one without, or name it as gpg:FINGERPRINT")
		default:
			if err = isFit(key.PublicKey); err == nil {
				return signerOf(entity, detachBy(entity)), nil
			}
		}
	}
	if err == nil {
		err = errors.New("there is no key in it")
	}
	return nil, fmt.Errorf("use signing key: %w", err)
}

var errCannotSign = errors.New("it cannot sign, or is expired or revoked")

// isFit refuses keys that not everybody can verify with.
func isFit(k *packet.PublicKey) error {
	switch {
	case k.Version != 4 || k.PubKeyAlgo != packet.PubKeyAlgoRSA && k.PubKeyAlgo != packet.PubKeyAlgoEdDSA:
		return errors.New("gpg 2.2 and virt-builder do not know its kind; want RSA or Ed25519, version 4")
	case isShort(k):
		return errors.New("its RSA key has less than 2048 bits, which Verify would refuse")
	}
	return nil
}

// detachBy signs with a key that is here.
func detachBy(entity *openpgp.Entity) func(io.Writer, string, time.Time) error {
	return func(w io.Writer, text string, now time.Time) error {
		config := &packet.Config{DefaultHash: crypto.SHA512, Time: func() time.Time { return now }}
		return openpgp.DetachSignText(w, entity, strings.NewReader(text), config)
	}
}

func isShort(k *packet.PublicKey) bool {
	bits, err := k.BitLength()
	return k.PubKeyAlgo == packet.PubKeyAlgoRSA && (err != nil || bits < 2047)
}

// NewKey makes an Ed25519 secret key without a passphrase and returns it
// armoured.
func NewKey(name string, now time.Time) ([]byte, error) {
	entity, err := openpgp.NewEntity(name, "", "", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, DefaultHash: crypto.SHA512, Time: func() time.Time { return now },
	})
	if err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	return armoured(openpgp.PrivateKeyType, func(w io.Writer) error { return entity.SerializePrivate(w, nil) })
}

// Fingerprint names the key, in upper-case hexadecimal as gpg writes it.
func (s *Signer) Fingerprint() string { return fmt.Sprintf("%X", s.entity.PrimaryKey.Fingerprint) }

// Keys are what the signer's texts verify against.
func (s *Signer) Keys() Keys { return Keys{s.entity} }

// PublicKey returns the public key, armoured. It is not the caller's to change.
func (s *Signer) PublicKey() ([]byte, error) { return s.public() }

// maxLine is the longest line that is signed, in bytes. gpg cuts lines of more
// than 19,994 off, and its signatures of them verify with gpg only.
const maxLine = 19000

// Sign returns text clear-signed. Its last line must end in LF.
func (s *Signer) Sign(text []byte, now time.Time) ([]byte, error) {
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	var out, covered strings.Builder
	out.WriteString(header + "\nHash: SHA512\n\n")
	for i, line := range lines {
		if len(line) > maxLine {
			return nil, fmt.Errorf("sign: line %d has more than %d bytes, which gpg cannot verify", i+1, maxLine)
		}
		if i > 0 {
			covered.WriteString("\n")
		}
		covered.WriteString(strings.TrimRight(line, " \t\r"))
		if strings.HasPrefix(line, "-") || strings.HasPrefix(line, "From ") {
			out.WriteString("- ")
		}
		// As it is, with the blanks at its end: clearsign.Encode strips them,
		// and in an index they can have a meaning.
		out.WriteString(line + "\n")
	}
	signature, err := armoured(openpgp.SignatureType, func(w io.Writer) error { return s.detach(w, covered.String(), now) })
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return append([]byte(out.String()), signature...), nil
}

// armoured writes with a checksum, without which gpg 2.2 refuses some armours.
func armoured(kind string, write func(io.Writer) error) ([]byte, error) {
	var out bytes.Buffer
	w, err := armor.EncodeWithChecksumOption(&out, kind, nil, true)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(write(w), w.Close()); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}
