package signed

import (
	"fmt"
	"slices"
	"strings"
)

// ParseFingerprint reads the fingerprint of a key as gpg and virt-builder take it:
// blanks in it and the case of its digits mean nothing. It returns it in upper case
// without blanks. Key IDs, which are only its end, are refused: anybody can make a
// key that ends so.
func ParseFingerprint(text string) (string, error) {
	digits := strings.ToUpper(strings.Join(strings.Fields(text), ""))
	digits = strings.TrimPrefix(digits, "0X")
	if len(digits) != 40 && len(digits) != 64 || strings.Trim(digits, "0123456789ABCDEF") != "" {
		return "", fmt.Errorf("%.80q is no fingerprint: want its 40 hexadecimal digits, as gpg --fingerprint shows them", text)
	}
	return digits, nil
}

// Fingerprints are those of the primary keys, as ParseFingerprint returns them.
func Fingerprints(keys Keys) []string {
	var list []string
	for _, entity := range keys {
		list = append(list, fmt.Sprintf("%X", entity.PrimaryKey.Fingerprint))
	}
	return list
}

// Select returns the keys that have one of the fingerprints, which ParseFingerprint
// returned: that of the primary key, or that of a subkey, which stands for its whole
// key, as it does for virt-builder. That must be one that signs: it has agreed to be
// part of the key, while anybody can make one that encrypts a part of his own.
func Select(keys Keys, fingerprints []string) Keys {
	var list Keys
	for _, entity := range keys {
		all := []string{fmt.Sprintf("%X", entity.PrimaryKey.Fingerprint)}
		for _, sub := range entity.Subkeys {
			if sub.Sig == nil || !sub.Sig.FlagsValid || !sub.Sig.FlagSign {
				continue
			}
			all = append(all, fmt.Sprintf("%X", sub.PublicKey.Fingerprint))
		}
		if slices.ContainsFunc(all, func(f string) bool { return slices.Contains(fingerprints, f) }) {
			list = append(list, entity)
		}
	}
	return list
}
