package workshop

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"herdbook/internal/event"
	"herdbook/internal/gateway"
	"herdbook/internal/machine"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/wire"
)

// networkScript says of every way out whether it is one, in lines NAME: WORD.
const networkScript = `#!/bin/sh
busybox=/bin/busybox
fetch() { curl --silent --fail --max-time 30 --noproxy '*' "$@"; }
echo "named: $(fetch http://10.0.2.2:$NAMED/)"
echo "by name: $(fetch http://puppet.example.org:$NAMED/)"
for to in 10.0.2.2 10.0.2.3 $OWN; do
  status=0
  fetch http://$to:$OTHER/ || status=$?
  echo "other at $to: $status" # 7: it could not connect
done
echo "the way back: $($busybox nslookup 192.0.2.77 10.0.2.3 | $busybox awk '/name = / { print $NF }')"
echo "proxy: $http_proxy"
echo "token: $TOKEN"
echo "mirror: $(fetch http://deb.debian.org/debian/dists/bookworm/Release | $busybox grep -c '^Codename: bookworm$')"
printf '#!/bin/sh\n[ "$1" = bound ] && echo "leased: $ip/$mask $router $dns $lease"\nexit 0\n' >/tmp/lease
$busybox chmod 755 /tmp/lease
$busybox udhcpc -i eth0 -f -q -n -s /tmp/lease
echo "listening"
echo "came in: $($busybox nc -l -p 22)"
`

// A guest reaches what its rules let it reach, under the names that they give, and the
// host reaches into it; whatever else listens on the host is not there for it.
func TestVMNetwork(t *testing.T) {
	agent, err := Agent()
	peer.Need(t, err == nil, "the agent is not built: make build")
	response, err := http.Get(peer.Upstream + "/debian/dists/bookworm/Release")
	peer.Need(t, err == nil && response.StatusCode == http.StatusOK, "Debian's archive cannot be reached")
	peer.Must(t, response.Body.Close())
	named := server(t, "127.0.0.1:0", "welcome")
	other := server(t, ":0", "secret")
	port := func(l net.Listener) uint16 { return uint16(l.Addr().(*net.TCPAddr).Port) }
	free, err := net.Listen("tcp", "127.0.0.1:0")
	peer.Must(t, err)
	inward := port(free)
	peer.Must(t, free.Close())

	g := newGuest(t, "")
	g.write(t, "etc/fstab", "")
	g.addProgram(t, "curl") // with the resolver of the C library
	verdict, err := machine.Probe(t.Context(), t.TempDir())
	peer.Must(t, err)
	script := &op.Run{Script: networkScript, Environment: map[string]op.Secret{
		"NAMED": {Value: fmt.Sprint(port(named))}, "OTHER": {Value: fmt.Sprint(port(other))}, "OWN": {Value: strings.Join(own(t), " ")},
		"TOKEN": {Value: "hunter2", Name: "TOKEN"},
	}}
	s := Session{
		Disk: makeDisk(t, "gpt", part{mib: 500, format: "-t ext4", tree: g.dir}), Scratch: t.TempDir(), Agent: agent,
		Accelerator: verdict.Accelerator, Memory: 512, CPUs: 1, Timeout: 5 * time.Minute,
		Job: wire.Job{
			Operations: []op.Envelope{{Operation: script}}, Redact: []string{"pr0xy"},
			Environment: []string{"http_proxy=http://me:pr0xy@proxy.example.org:3128"},
		},
		Network: &gateway.Rules{
			Hosts: map[string]netip.Addr{"puppet.example.org": gateway.Router, "other.example.org": netip.MustParseAddr("192.0.2.77")}, HostPorts: []uint16{port(named)},
			Forward: []gateway.Forward{{Host: inward, Guest: 22}},
		},
	}
	var mu sync.Mutex
	var said, notices []string
	var knock sync.Once
	var knocked error
	s.Sink = func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		switch e.Kind {
		case event.Log:
			said = append(said, e.Text)
		case event.Notice:
			notices = append(notices, e.Text)
		}
		if e.Text == "listening" {
			knock.Do(func() { knocked = greet(inward) })
		}
	}
	_, err = Run(t.Context(), s)
	all := strings.Join(said, "\n")
	if err := errors.Join(err, knocked); err != nil {
		t.Fatalf("%v\n%s", err, all)
	}
	want := []string{"named: welcome", "by name: welcome", "the way back: other.example.org", "proxy: http://me:***@proxy.example.org:3128", "token: ***", "mirror: 1", "leased: 10.0.2.15/24 10.0.2.2 10.0.2.3 86400", "came in: hello"}
	for _, a := range append([]string{"10.0.2.2", "10.0.2.3"}, own(t)...) {
		want = append(want, "other at "+a+": 7")
	}
	for _, line := range want {
		if !strings.Contains("\n"+all+"\n", "\n"+line+"\n") {
			t.Errorf("it did not say %q:\n%s", line, all)
		}
	}
	if text := fmt.Sprintf("refused port %d of this host", port(other)); !strings.Contains(strings.Join(notices, "\n"), text) {
		t.Errorf("no notice says %q: %q", text, notices)
	}
}

// server is one of the host's that says a word to everybody.
func server(t *testing.T, address, word string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	peer.Must(t, err)
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, word) // who reads it tells
	})}}
	s.Start()
	t.Cleanup(s.Close)
	return l
}

// own are the addresses of this host that are no loopback.
func own(t *testing.T) []string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	peer.Must(t, err)
	var list []string
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			list = append(list, p.Addr().String())
		}
	}
	return list
}

// greet says a word to the guest, which is about to listen, until it takes it.
func greet(port uint16) error {
	for {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		_, err = io.WriteString(conn, "hello")
		if err == nil {
			err = conn.(*net.TCPConn).CloseWrite()
		}
		if err == nil {
			_, err = io.Copy(io.Discard, conn)
		}
		_ = conn.Close() // all has come, or nothing
		if err == nil {
			return nil
		}
	}
}
