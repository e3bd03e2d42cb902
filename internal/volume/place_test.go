package volume

import (
	"bytes"
	"math/rand"
	"os"
	"path/filepath"
	"testing"

	"herdbook/internal/disk"
	"herdbook/internal/peer"
)

// What lies on the places of a range is what the volume has there.
func TestPlaces(t *testing.T) {
	l, _ := makeGroup(t)
	plain := filepath.Join(t.TempDir(), "plain")
	peer.Must(t, os.WriteFile(plain, bytes.Repeat([]byte("plain"), 4<<20/5), 0o600))
	files := [][]byte{read(t, l.Files[0]), read(t, plain), read(t, l.Files[1])}
	whole, partitions := parts(t, files...)
	s, err := Find(whole, partitions, nil)
	peer.Must(t, err)
	random := rand.New(rand.NewSource(3))
	for _, v := range s.Volumes {
		for range 100 {
			start := random.Int63n(v.Size)
			at := disk.Range{Start: start, Size: random.Int63n(min(300000, v.Size-start) + 1)}
			want := make([]byte, at.Size)
			if _, err := v.ReadAt(want, at.Start); err != nil {
				t.Fatal(err)
			}
			places, err := s.Places(v, at)
			peer.Must(t, err)
			var got []byte
			for _, place := range places {
				p := make([]byte, place.Size)
				_, err := whole.ReadAt(p, place.Start)
				peer.Must(t, err)
				got = append(got, p...)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("%s, %v: other bytes lie on %v", v.Name, at, places)
			}
		}
		if _, err := s.Places(v, disk.Range{Start: v.Size - 1, Size: 2}); err == nil {
			t.Errorf("%s has more bytes than it has", v.Name)
		}
	}
}

// A mirror has every byte twice.
func TestPlacesOfAMirror(t *testing.T) {
	list := arrays(t)
	whole, partitions := parts(t, list[0], list[1])
	s, err := Find(whole, partitions, nil)
	peer.Must(t, err)
	v := s.Volumes[0]
	if v.Err != nil || v.Kind != RAID {
		t.Fatalf("%s: %v", v.Name, v.Err)
	}
	places, err := s.Places(v, disk.Range{Start: 4096, Size: 100000})
	if err != nil || len(places) != 2 {
		t.Fatalf("%v, %v", places, err)
	}
	want := make([]byte, 100000)
	if _, err := v.ReadAt(want, 4096); err != nil {
		t.Fatal(err)
	}
	for _, place := range places {
		got := make([]byte, place.Size)
		_, err := whole.ReadAt(got, place.Start)
		peer.Must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("other bytes lie on %v", place)
		}
	}
}
