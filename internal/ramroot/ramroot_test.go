package ramroot

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"herdbook/internal/digest"
	"herdbook/internal/peer"
)

func TestArguments(t *testing.T) {
	got := parseArguments("quiet herdbook.root=http://a/b?c=d  init=/bin/sh \"x=y z\" panic=30\n")
	want := map[string]string{"quiet": "quiet", "herdbook.root": "http://a/b?c=d", "init": "/bin/sh", "x": "y", "z": "z", "panic": "30"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestMemory(t *testing.T) {
	m, err := parseMeminfo("MemTotal:         504952 kB\nMemFree:           12 kB\nMemAvailable:     400000 kB\nHugePages_Total:       0\n")
	if err != nil || m != (Memory{504952 << 10, 400000 << 10}) {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := parseMeminfo("nothing"); err == nil {
		t.Error("nothing is told, and no error")
	}
	line := fmt.Sprintf(memoryLine, m.Total, m.Available)
	if got, ok := ParseMemory(line + "\r"); !ok || got != m {
		t.Errorf("%q: %+v, %t", line, got, ok)
	}
	for _, line := range []string{"", "herdbook: memory total=1", "memory total=1 available=2"} {
		if _, ok := ParseMemory(line); ok {
			t.Errorf("%q tells the memory", line)
		}
	}
}

func TestHardwareFindsItsDriver(t *testing.T) {
	d := parseDrivers("virtio:d00000001v* net_failover virtio_net\npci:v00001AF4d00001000sv*sd*bc*sc*i* virtio_pci\nempty\n")
	for hardware, want := range map[string]string{
		"virtio:d00000001v00001AF4":                             "net_failover virtio_net",
		"virtio:d00000002v00001AF4":                             "",
		"pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00": "virtio_pci",
	} {
		if got := strings.Join(d.wanted(hardware), " "); got != want {
			t.Errorf("%s: %q, want %q", hardware, got, want)
		}
	}
}

func TestLease(t *testing.T) {
	ack, err := dhcpv4.New(dhcpv4.WithYourIP([]byte{10, 0, 2, 15}), dhcpv4.WithNetmask([]byte{255, 255, 255, 0}),
		dhcpv4.WithRouter([]byte{10, 0, 2, 2}), dhcpv4.WithDNS([]byte{10, 0, 2, 3}, []byte{1, 1, 1, 1}))
	peer.Must(t, err)
	l, err := newLease("eth0", ack)
	if err != nil || l.address.String() != "10.0.2.15/24" || l.resolvConf() != "nameserver 10.0.2.3\nnameserver 1.1.1.1\n" || len(l.routers) != 1 {
		t.Errorf("%+v, %v", l, err)
	}
	ack, err = dhcpv4.New()
	peer.Must(t, err)
	if _, err := newLease("eth0", ack); err == nil {
		t.Error("an answer without an address, and no error")
	}
}

// The root comes whole over connections that break, and no other comes for it.
func TestFetch(t *testing.T) {
	root := bytes.Repeat([]byte("0123456789abcdef"), 1<<12)
	// Each answer is what the server does at one more request; the last one is repeated.
	type answer func(w http.ResponseWriter, r *http.Request)
	whole := func(content []byte) answer {
		return func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		}
	}
	broken := func(n int) answer {
		return func(w http.ResponseWriter, r *http.Request) {
			at := 0
			if text, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
				at, _ = strconv.Atoi(strings.TrimSuffix(text, "-"))
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", at, len(root)-1, len(root)))
			}
			w.Header().Set("Content-Length", strconv.Itoa(len(root)-at))
			if at > 0 {
				w.WriteHeader(http.StatusPartialContent)
			}
			_, _ = w.Write(root[at : at+n])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}
	status := func(code int) answer { return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) } }
	forgetful := func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(root) } // it knows no ranges
	for name, c := range map[string]struct {
		answers []answer
		asked   int
		wrong   string
	}{
		"at once":              {[]answer{whole(root)}, 1, ""},
		"broken twice":         {[]answer{broken(100), broken(5000), whole(root)}, 3, ""},
		"broken, no ranges":    {[]answer{broken(100), forgetful}, 2, ""},
		"a server that starts": {[]answer{status(503), status(502), whole(root)}, 3, ""},
		"always broken":        {[]answer{broken(1)}, fetchTries, "fetch the root"},
		"not there":            {[]answer{status(404)}, 1, "404 Not Found"},
		"another":              {[]answer{whole([]byte("another"))}, 1, "use the files of one export"},
		"one with more":        {[]answer{whole(append(slices.Clone(root), 'x'))}, 1, "use the files of one export"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				a := c.answers[min(asked, len(c.answers)-1)]
				asked++
				a(w, r)
			}))
			defer server.Close()
			path := filepath.Join(t.TempDir(), "root")
			err := fetch(server.Client(), Config{Digest: digest.Of(root), Size: int64(len(root)), URL: server.URL}, path, 0)
			if (err != nil) != (c.wrong != "") || err != nil && !strings.Contains(err.Error(), c.wrong) || asked != c.asked {
				t.Fatalf("asked %d times: %v, want %d times, %q", asked, err, c.asked, c.wrong)
			}
			if got, err := os.ReadFile(path); c.wrong == "" && (err != nil || !bytes.Equal(got, root)) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

// A server that nobody vouches for is not asked again.
func TestFetchFromStrangers(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	err := fetch(&http.Client{}, Config{Size: 1, URL: server.URL}, filepath.Join(t.TempDir(), "root"), 0)
	if err == nil || !strings.Contains(err.Error(), "add the server's CA to the image") {
		t.Errorf("%v", err)
	}
}

func TestInitOfTheSystem(t *testing.T) {
	root := t.TempDir()
	if _, err := systemInit(root, nil); err == nil || !strings.Contains(err.Error(), "/sbin/init, nor") {
		t.Errorf("an empty root: %v", err)
	}
	peer.Must(t, os.MkdirAll(filepath.Join(root, "sbin"), 0o755))
	peer.Must(t, os.Symlink("/lib/systemd/systemd", filepath.Join(root, "sbin/init"))) // leads to nothing from outside
	if got, err := systemInit(root, nil); err != nil || got != "/sbin/init" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := systemInit(root, map[string]string{"init": "/bin/other"}); err == nil {
		t.Error("an init that is not there, and no error")
	}
}
