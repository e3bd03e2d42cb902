package peer

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Encrypt has cryptsetup encrypt a file in place by LUKS2, with a passphrase and a
// key that takes no time. The file grows by 16 MiB for the header, and what was in
// it lies 8 MiB further behind.
func Encrypt(t testing.TB, file, passphrase string) (uuid string) {
	t.Helper()
	NeedTool(t, "cryptsetup")
	key := filepath.Join(t.TempDir(), "key")
	stat, err := os.Stat(file)
	Must(t, err)
	Must(t, errors.Join(os.WriteFile(key, []byte(passphrase), 0o600), os.Truncate(file, stat.Size()+16<<20)))
	Run(t, "cryptsetup", "reencrypt", "-q", "--encrypt", "--type", "luks2", "--reduce-device-size", "16M", "--key-file", key,
		"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", file)
	return Run(t, "cryptsetup", "luksUUID", file)[:36]
}

// RAID1 makes the two members of a RAID1 of metadata 1.2 that holds content, as
// mdadm would, but for which it needs a kernel with md. The superblocks are like
// those of a member that mdadm made.
func RAID1(t testing.TB, content, member []byte) (list [2][]byte) {
	t.Helper()
	const super, data = 4096, 1 << 20
	le := binary.LittleEndian
	for i := range list {
		p := make([]byte, data+len(content))
		copy(p, member[:data])
		copy(p[data:], content)
		s := p[super:]
		sectors := uint64(len(content)) / 512
		le.PutUint64(s[80:], sectors)
		le.PutUint64(s[136:], sectors)
		le.PutUint32(s[160:], uint32(i))
		s[168] ^= byte(i) // of the member's own identifier
		le.PutUint32(s[216:], 0)
		sum := uint64(0)
		count := 256 + 2*int(le.Uint32(s[220:]))
		for at := 0; at < count; at += 4 {
			sum += uint64(le.Uint32(s[at:]))
		}
		le.PutUint32(s[216:], uint32(sum)+uint32(sum>>32))
		list[i] = p
	}
	return list
}
