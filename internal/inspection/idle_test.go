package inspection

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/disk"
	"herdbook/internal/peer"
)

// What is idle may be anything: noise there changes nothing of what is seen.
func TestIdleIsOfNoMeaning(t *testing.T) {
	peer.NeedTool(t, "mkswap", "e2fsck")
	swap := filepath.Join(t.TempDir(), "swap")
	peer.Must(t, os.WriteFile(swap, make([]byte, 2*unit), 0o600))
	peer.Run(t, "mkswap", swap)
	root := ext4Image(t, debian("LABEL=ESP /boot/efi vfat defaults\n"), "-L", "root")
	image := table(t, "gpt", partition{"type=uefi", esp(t)}, partition{"type=swap", read(t, swap)}, partition{"type=linux", root},
		partition{"type=linux", append([]byte("hsqs"), make([]byte, unit)...)})
	idle, err := FindIdle(bytes.NewReader(image), int64(len(image)))
	peer.Must(t, err)
	if len(idle.Other) != 1 || !strings.Contains(idle.Other[0], "partition 4 is squashfs") {
		t.Errorf("other volumes: %q", idle.Other)
	}
	after := bytes.Clone(image)
	total := int64(0)
	for _, r := range idle.Ranges {
		copy(after[r.Start:][:r.Size], bytes.Repeat([]byte{0xEE}, int(r.Size)))
		total += r.Size
	}
	if total != idle.Free || total < 4*unit {
		t.Errorf("%d bytes in the ranges, %d are said to be free", total, idle.Free)
	}
	was, err := disk.ReadTable(bytes.NewReader(image), int64(len(image)))
	peer.Must(t, err)
	is, err := disk.ReadTable(bytes.NewReader(after), int64(len(after)))
	peer.Must(t, err)
	for i, p := range was.Partitions {
		if is.Partitions[i] != p {
			t.Errorf("partition %d changed", p.Number)
		}
		part := filepath.Join(t.TempDir(), "part")
		peer.Must(t, os.WriteFile(part, after[p.Start:][:p.Size], 0o600))
		switch i {
		case 0:
			peer.Run(t, "fsck.vfat", "-n", part)
		case 1:
			if !strings.Contains(peer.Run(t, "blkid", "-p", part), `TYPE="swap"`) {
				t.Error("swap is none any more")
			}
		case 2:
			peer.Run(t, "e2fsck", "-fn", part)
		}
	}
	if s, err := inspect(after); err != nil || len(s.Kernels) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestASleepingSystemIsTold(t *testing.T) {
	swap := make([]byte, unit)
	copy(swap[4086:], "S1SUSPEND")
	image := table(t, "gpt", partition{"type=swap", swap}, partition{"type=linux", ext4Image(t, debian(""))})
	s, err := inspect(image)
	peer.Must(t, err)
	if err := s.Quiet(); !errors.Is(err, ErrHibernated) {
		t.Error(err)
	}
	if _, err := FindIdle(bytes.NewReader(image), int64(len(image))); !errors.Is(err, ErrHibernated) {
		t.Error(err)
	}
}
