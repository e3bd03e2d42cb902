package filesystem

import "testing"

func TestPathsAreInTheOrderOfAWalk(t *testing.T) {
	ordered := []string{".", ".a", "a", "a/a", "a/a/b", "a/a\x00", "a/b", "a\x00", "a\x00/x", "a-", "a.d", "a.d/x", "aa", "b", "b\xff", "\xff"}
	for i, a := range ordered {
		for j, b := range ordered {
			if got := comparePaths(a, b); (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("%q, %q: %d", a, b, got)
			}
		}
	}
}

func TestMergeOfNothing(t *testing.T) {
	peer := func(string, *Entry, *Entry) error { t.Error("a name of nothing"); return nil }
	if err := Merge(nil, nil, peer); err != nil {
		t.Error(err)
	}
}
