package client

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/bucket"
	"herdbook/internal/disk"
	"herdbook/internal/peer"
	"herdbook/internal/repo"
	"herdbook/internal/source"
)

func TestARepositoryInABucketIsRead(t *testing.T) {
	address, access, secret := peer.S3(t)
	options := bucket.Options{AccessKey: access, SecretKey: bucket.Secret(secret)}
	place, err := bucket.At(address, options)
	peer.Must(t, err)
	f := newFarm(t)
	x := version(1, "web")
	e := &x.Entries[0]
	e.Checksum, e.Format = f.image("images/web", "qcow2"), "qcow2"
	f.write(x)
	for _, name := range []string{"index.asc", "images/web"} {
		text, err := os.ReadFile(filepath.Join(f.dir, name))
		peer.Must(t, err)
		_, err = place.Put(context.Background(), "repo/"+name, bytes.NewReader(text), bucket.Condition{})
		peer.Must(t, err)
	}
	s := f.source()
	s.URL, s.Bucket = strings.Replace(address, "?", "/repo?", 1), options
	got, err := f.c.Read(context.Background(), s)
	peer.Must(t, err)
	o, err := (Catalogues{got}).Find(repo.Selector{Image: "web"})
	peer.Must(t, err)
	if d, err := f.c.Disk(context.Background(), o); err != nil || d.Format != disk.QCOW2 || d.Size != 1<<20 {
		t.Errorf("%+v %v", d, err)
	}
	s.URL = strings.Replace(address, "?", "/none?", 1)
	if _, err := f.c.Read(context.Background(), s); !errors.Is(err, source.ErrNotFound) {
		t.Error(err)
	}
	s.Bucket.SecretKey = "mistaken"
	if _, err := f.c.Read(context.Background(), s); err == nil || errors.Is(err, source.ErrNotFound) || strings.Contains(err.Error(), "mistaken") {
		t.Error(err)
	}
}
