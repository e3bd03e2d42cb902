package lvm

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/peer"
)

// LVM itself sees the new identifiers, finds nothing wrong, and goes on with them; also
// where the metadata go around the end of their area.
func TestRename(t *testing.T) {
	l := peer.NewLVM(t, 16<<20, 32<<20)
	l.Run("pvcreate", "--metadatasize", "32k", "--dataalignment", "4k", l.Loops[0])
	l.Run("pvcreate", "--metadatacopies", "2", "--labelsector", "2", l.Loops[1])
	l.Run("vgcreate", "-s", "1m", "vg", l.Loops[0], l.Loops[1])
	l.Create("-L", "18m", "-n", "root", "vg")
	for i := range 23 {
		l.Run("vgchange", "--addtag", fmt.Sprint(strings.Repeat("tag", 20), i), "vg")
		table := func() [][]string {
			return append(l.Table("pvs", "pv_name,pv_uuid,vg_uuid,pv_size,pv_tags"), l.Table("lvs", "lv_name,lv_uuid,lv_size,devices", "--segments")...)
		}
		changes := map[string]string{}
		want := table()
		for r, row := range want[:2] {
			for _, column := range []int{1, 2} {
				old := row[column]
				changes[old] = fmt.Sprintf("%06d-aaaa-bbbb-cccc-dddd-eeee-%03d%03d", i, column, r*(2-column))
				want[r][column] = changes[old]
			}
		}
		for _, file := range l.Files {
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			peer.Must(t, err)
			st, err := f.Stat()
			peer.Must(t, err)
			if err := Rename(f, st.Size(), changes); err != nil {
				t.Fatal(err)
			}
			peer.Must(t, f.Close())
		}
		if diff := cmp.Diff(want, table()); diff != "" {
			t.Fatalf("after %d changes LVM sees (-want +got):\n%s", i+1, diff)
		}
	}
	l.Run("vgck", "vg")
}

func TestRenameRefuses(t *testing.T) {
	file := t.TempDir() + "/x"
	peer.Must(t, os.WriteFile(file, make([]byte, 1<<20), 0o600))
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	peer.Must(t, err)
	defer f.Close()
	if err := Rename(f, 1<<20, nil); err == nil {
		t.Error("it found a label in zeros")
	}
	if err := Rename(f, 1<<20, map[string]string{"short": "shirt"}); err == nil || !strings.Contains(err.Error(), "no identifier") {
		t.Errorf("%v", err)
	}
}
