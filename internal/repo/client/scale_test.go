package client

import (
	"fmt"
	"strings"
	"testing"

	"herdbook/internal/peer"
	"herdbook/internal/repo"
)

// large is an index of so many entries of ours.
func large(n int) repo.Index {
	x := repo.Index{Header: repo.Header{Version: 1, Signed: noon}}
	sum := strings.Repeat("0123456789abcdef", 8)
	for i := range n {
		x.Entries = append(x.Entries, repo.Entry{
			ID: fmt.Sprintf("image-%d", i), Name: "Some image", OSInfo: "debian12", Arch: "x86_64", File: fmt.Sprintf("images/image-%d.xz", i), Checksum: sum, Revision: 1,
			Format: "raw", Size: 4 << 30, CompressedSize: 1 << 28, Expand: "/dev/sda1", Notes: "It stands on another.\n\nAnd has two paragraphs.", Aliases: []string{fmt.Sprintf("image-%d-stable", i)},
			Facts: repo.Facts{Image: fmt.Sprintf("image-%d", i), Layer: sum[:64], Published: noon, Channels: []string{"stable"}, Released: []repo.Release{{Channel: "stable", Time: noon}},
				Artefacts: []repo.Artefact{{Kind: "qcow2", File: fmt.Sprintf("images/image-%d.qcow2", i), Size: 1 << 28, SHA256: sum[:64], SHA512: sum}}},
		})
	}
	return x
}

func BenchmarkIndexOfTenThousandEntries(b *testing.B) {
	signer := newSigner(b, "farm")
	text, err := signer.Sign(repo.Format(large(10000)), noon)
	peer.Must(b, err)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		_, x, err := (Source{}).parse([]document{{"file:///index.asc", text}}, signer.Keys(), noon)
		if err != nil || len(x.Entries) != 10000 {
			b.Fatal(err)
		}
	}
}
