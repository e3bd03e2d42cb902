package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"herdbook/internal/disk"
	"herdbook/internal/repo"
	"herdbook/internal/signed"
)

// pullRows are those of reading repositories: the starter's web on a disk of 4 GiB.
var pullRows = []func(context.Context, *bench) (row, error){pullLinked, pullOwn, largeIndex}

// repository publishes the image by hand: xz for virt-builder, qcow2 for herdbook. Both
// have it in their caches afterwards.
func (b *bench) repository(ctx context.Context) (string, error) {
	dir := filepath.Join(b.dir, "farm")
	index := filepath.Join(dir, "index")
	if _, err := os.Stat(index); err == nil {
		return dir, nil
	}
	raw, qcow2 := filepath.Join(dir, "web"), filepath.Join(dir, "web.qcow2")
	err := errors.Join(os.MkdirAll(dir, 0o755), disk.Flatten(ctx, b.layers["web sysprep"], raw, disk.FlattenOptions{Format: disk.Raw}))
	if err == nil {
		err = errors.Join(disk.Resize(ctx, raw, disk.Raw, 4<<30), disk.Flatten(ctx, raw, qcow2, disk.FlattenOptions{SourceFormat: disk.Raw, Compress: true}))
	}
	if err == nil {
		err = exec.CommandContext(ctx, "xz", "-1", "-T0", "--block-size=16777216", raw).Run()
	}
	if err != nil {
		return "", fmt.Errorf("publish the image: %w", err)
	}
	e := repo.Entry{ID: "web", Arch: "x86_64", File: "web.xz", Revision: 1, Format: "raw", Size: 4 << 30, Facts: repo.Facts{Image: "web"}}
	for kind, file := range map[string]string{"xz": "web.xz", "qcow2": "web.qcow2"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return "", err
		}
		a := repo.Artefact{Kind: kind, File: file, Size: int64(len(text)), SHA256: fmt.Sprintf("%x", sha256.Sum256(text)), SHA512: fmt.Sprintf("%x", sha512.Sum512(text))}
		if e.Artefacts = append(e.Artefacts, a); kind == "xz" {
			e.Checksum, e.CompressedSize = a.SHA512, a.Size
		}
	}
	if _, err := b.virtBuilder(ctx, dir, e); err != nil { // with the index that it reads
		return "", err
	}
	_, err = b.pull(ctx, dir, "first.qcow2")
	return dir, err
}

// virtBuilder is virt-builder with a repository; an entry is written there before.
func (b *bench) virtBuilder(ctx context.Context, dir string, entries ...repo.Entry) (time.Duration, error) {
	index := filepath.Join(dir, "index")
	if len(entries) > 0 {
		if err := os.WriteFile(index, repo.Format(repo.Index{Entries: entries}), 0o644); err != nil {
			return 0, err
		}
	}
	return b.peer(ctx, "env", "VIRT_BUILDER_DIRS="+b.dir, "XDG_CONFIG_HOME="+b.dir, "virt-builder", "--no-check-signature", "--source", "file://"+index,
		"--cache", filepath.Join(b.dir, "virt-builder-cache"), "--output", filepath.Join(b.dir, "virt-builder.img"), "--no-network", "web")
}

// pull is herdbook with the same repository.
func (b *bench) pull(ctx context.Context, dir, name string, more ...string) (time.Duration, error) {
	args := []string{"pull", "web", "--repo", dir, "--unsigned", "--force", "--output", filepath.Join(b.dir, name)}
	return b.command(ctx, append(args, more...)...)
}

// atMost is a row whose goal is a time of ours, beside the time of virt-builder.
func (b *bench) atMost(ctx context.Context, what string, goal time.Duration, more ...string) (row, error) {
	dir, err := b.repository(ctx)
	if err != nil {
		return row{}, err
	}
	ours, err := median(5, func(int) (time.Duration, error) { return b.pull(ctx, dir, "pulled.qcow2", more...) })
	if err != nil {
		return row{}, err
	}
	if b.virtBuilt == 0 {
		b.virtBuilt, err = b.virtBuilder(ctx, dir)
	}
	peer := b.virtBuilt
	return row{what: what, text: fmt.Sprintf("%.3f s\t%.2f s virt-builder\t%.4f\t< %s\t%s", ours.Seconds(), peer.Seconds(), ours.Seconds()/peer.Seconds(), goal, verdict(ours < goal))}, err
}

func pullLinked(ctx context.Context, b *bench) (row, error) {
	return b.atMost(ctx, "pull --linked, 4 GiB, kept", 150*time.Millisecond, "--linked")
}

func pullOwn(ctx context.Context, b *bench) (row, error) {
	return b.atMost(ctx, "pull, 4 GiB, kept", time.Second)
}

// largeIndex is the time to verify and read an index of 10,000 entries.
func largeIndex(context.Context, *bench) (row, error) {
	var x repo.Index
	sum := strings.Repeat("0123456789abcdef", 8)
	now := time.Now()
	for i := range 10000 {
		name := fmt.Sprintf("image-%d", i)
		x.Entries = append(x.Entries, repo.Entry{
			ID: name, Arch: "x86_64", File: "images/" + name, Checksum: sum, Revision: 1, Format: "raw", Size: 4 << 30, CompressedSize: 1 << 28,
			Notes: "It stands on another.\n\nIt has two paragraphs.", Facts: repo.Facts{Image: name, Layer: sum[:64], Published: now, Channels: []string{repo.Stable},
				Artefacts: []repo.Artefact{{Kind: "qcow2", File: "images/" + name + ".qcow2", Size: 1 << 28, SHA256: sum[:64], SHA512: sum}}},
		})
	}
	secret, err := signed.NewKey("bench", now)
	if err != nil {
		return row{}, err
	}
	signer, err := signed.NewSigner(secret, now)
	if err != nil {
		return row{}, err
	}
	message, err := signer.Sign(repo.Format(x), now)
	if err != nil {
		return row{}, err
	}
	ours, err := median(5, func(int) (time.Duration, error) {
		start := time.Now()
		text, err := signed.VerifySole(message, signer.Keys(), now)
		if err != nil {
			return 0, err
		}
		got, err := repo.Parse(text)
		if err == nil && (len(got.Entries) != len(x.Entries) || !bytes.Equal(repo.Format(got), repo.Format(x))) {
			err = errors.New("the index comes back as another")
		}
		return time.Since(start), err
	})
	return limit("an index of 10,000 entries, verified and read", fmt.Sprintf("%.3f s", ours.Seconds()), "< 0.5 s", ours < 500*time.Millisecond), err
}
