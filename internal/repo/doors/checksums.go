package doors

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"herdbook/internal/repo"
)

// checksums are lists of all files of the index as sha256sum and sha512sum check
// them. The names of files have no characters that those would escape.
func checksums(x repo.Index, _ *url.URL) ([]File, error) {
	short, long := map[string]string{}, map[string]string{}
	add := func(sums map[string]string, file, sum string, length int) error {
		if sum == "" {
			return nil
		}
		if len(sum) != length || strings.Trim(sum, "0123456789abcdef") != "" {
			return fmt.Errorf("%s: %.40q is no checksum", file, sum)
		}
		if other, ok := sums[file]; ok && other != sum {
			return fmt.Errorf("%s has two checksums, %.12s… and %.12s…", file, other, sum)
		}
		sums[file] = sum
		return nil
	}
	for _, e := range x.Entries {
		if err := add(long, e.File, e.Checksum, 128); err != nil {
			return nil, err
		}
		for _, a := range e.Artefacts {
			if err := add(short, a.File, a.SHA256, 64); err != nil {
				return nil, err
			}
			if err := add(long, a.File, a.SHA512, 128); err != nil {
				return nil, err
			}
		}
	}
	return []File{{Name: SHA256Name, Text: list(short)}, {Name: SHA512Name, Text: list(long)}}, nil
}

func list(sums map[string]string) []byte {
	var out strings.Builder
	for _, file := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(&out, "%s  %s\n", sums[file], file)
	}
	return []byte(out.String())
}
