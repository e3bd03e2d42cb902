package filesystem

import (
	"fmt"
	"strings"
)

// FeatureNames names the bits of a word of features: those that have no name by the
// word and their number.
func FeatureNames(word string, bits uint64, names map[uint64]string) []string {
	var list []string
	for bit := uint64(1); bit != 0; bit <<= 1 {
		if bits&bit == 0 {
			continue
		}
		name := names[bit]
		if name == "" {
			name = fmt.Sprintf("%s bit 0x%x", word, bit)
		}
		list = append(list, name)
	}
	return list
}

// UnknownFeatures is the error of a file system that has the features, or nil if there
// are none.
func UnknownFeatures(names []string) error {
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("this reader does not know the feature %s", strings.Join(names, ", "))
}
