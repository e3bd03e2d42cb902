package client

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/disk"
	"herdbook/internal/repo"
	"herdbook/internal/repo/streams"
)

const (
	streamIndex = `{"format":"index:1.0","index":{"farm":{"format":"products:1.0","datatype":"image-downloads","path":"streams/v1/farm.%s"},
"other":{"format":"products:1.0","datatype":"image-ids","path":"../x"}}}`
	streamProducts = `{"format":"products:1.0","products":{"org.example:web:1:amd64":{"arch":"amd64","pubname":"web-1","versions":{
"20250101":{"items":{"disk.img":{"path":"old","size":1,"sha512":"%[1]s"}}},
"20260101":{"items":{"disk1.img":{"path":"images/web.img","size":%[2]d,"sha512":"%[1]s"}}}}}}}`
)

// streams makes the farm a tree of Simple Streams.
func (f *farm) streams() {
	sum := f.image("images/web.img", "qcow2")
	size := fileSize(f.t, f.dir+"/images/web.img")
	products := fmt.Appendf(nil, streamProducts, sum, size)
	f.put("streams/v1/index.json", fmt.Appendf(nil, streamIndex, "json"))
	f.put("streams/v1/farm.json", products)
	f.put("streams/v1/index.sjson", f.sign(fmt.Appendf(nil, streamIndex, "sjson")))
	f.put("streams/v1/farm.sjson", f.sign(products))
}

// What is large in all is refused before it fills the memory.
func TestATreeOfSimpleStreamsIsBoundedAsAWhole(t *testing.T) {
	f := newFarm(t)
	var index bytes.Buffer
	for i := range 5 {
		fmt.Fprintf(&index, `,"%d":{"format":"products:1.0","datatype":"image-downloads","path":"streams/v1/%d"}`, i, i)
		name := fmt.Sprintf("streams/v1/%d", i)
		f.put(name, nil)
		if err := os.Truncate(filepath.Join(f.dir, name), streams.MaxText-1); err != nil {
			t.Fatal(err)
		}
	}
	f.put("streams/v1/index.json", fmt.Appendf(nil, `{"format":"index:1.0","index":{%s}}`, index.Bytes()[1:]))
	_, err := f.c.Read(context.Background(), Source{URL: f.url, Streams: true, Unsigned: true})
	if err == nil || !strings.Contains(err.Error(), "streams/v1/4: too large") {
		t.Error(err)
	}
}

func TestATreeOfSimpleStreamsIsRead(t *testing.T) {
	f := newFarm(t)
	f.streams()
	for name, s := range map[string]Source{
		"signed":   {URL: f.url + "/", Streams: true, Keys: f.signer.Keys()},
		"unsigned": {URL: f.url, Streams: true, Unsigned: true},
	} {
		got, err := f.c.Read(context.Background(), s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, image := range []string{"web-1", "org.example:web:1:amd64"} {
			selector, err := repo.ParseSelector(image)
			if err != nil {
				t.Fatal(err)
			}
			selector.Arch = "x86_64"
			o, err := (Catalogues{got}).Find(selector)
			if err != nil || o.Revision != 20260101 {
				t.Errorf("%s: %+v %v", name, o.Entry, err)
				continue
			}
			if d, err := f.c.Disk(context.Background(), o); err != nil || d.Format != disk.QCOW2 || d.Size != 1<<20 {
				t.Errorf("%s: %+v %v", name, d, err)
			}
		}
		f.c.Offline = true
		if _, err := f.c.Read(context.Background(), s); err != nil {
			t.Errorf("%s, offline: %v", name, err)
		}
		f.c.Offline = false
	}
}

func TestATreeOfSimpleStreamsThatIsNotSignedAsItShouldIsRefused(t *testing.T) {
	f := newFarm(t)
	s := Source{URL: f.url, Streams: true, Keys: f.signer.Keys()}
	read := func(want string) {
		t.Helper()
		if _, err := f.c.Read(context.Background(), s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	read("index.sjson: not found")
	f.streams()
	// Products without a signature behind a signed index.
	f.put("streams/v1/index.sjson", f.sign(fmt.Appendf(nil, streamIndex, "json")))
	read("farm.json: verify: it is not a clear-signed text")
	f.streams()
	f.put("streams/v1/farm.sjson", bytes.Replace(f.sign([]byte("{}")), []byte("{}"), []byte("{ }"), 1))
	read("farm.sjson: verify: bad signature")
	f.put("streams/v1/index.sjson", []byte("{}"))
	read("index.sjson: verify: it is not a clear-signed text")
}
