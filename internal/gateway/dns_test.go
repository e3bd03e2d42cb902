package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"herdbook/internal/peer"
)

// upstream is a name server that knows example.org, of a length that is asked for by
// the name, and nothing of anything else. It writes down what it was asked.
type upstream struct {
	address netip.AddrPort
	asked   chan string
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	peer.Must(t, err)
	packets, err := net.ListenPacket("udp", l.Addr().String())
	peer.Must(t, err)
	s := &upstream{netip.MustParseAddrPort(l.Addr().String()), make(chan string, 1000)}
	done := make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		p := make([]byte, 65535)
		for {
			n, from, err := packets.ReadFrom(p)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo([]byte("no answer at all"), from)
			_, _ = packets.WriteTo(s.answer(p[:n], "udp"), from)
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if query, err := readMessage(c, 65535); err == nil {
				_ = writeMessage(c, s.answer(query, "tcp"))
			}
			_ = c.Close() // the reader tells
		}
	}()
	t.Cleanup(func() {
		peer.Must(t, errors.Join(l.Close(), packets.Close()))
		<-done
		<-done
	})
	return s
}

func (s *upstream) answer(query []byte, network string) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil
	}
	q := m.Questions[0]
	s.asked <- network + " " + q.Name.String()
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}
	var records int
	switch name := q.Name.String(); {
	case name == "example.org." && q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 9}}}}
	case name != "example.org." && strings.HasSuffix(name, ".example.org.") && q.Type == dnsmessage.TypeTXT:
		_, _ = fmt.Sscanf(name, "%d.example.org.", &records)
		for range records {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.TXTResource{TXT: []string{strings.Repeat("x", 250)}}})
		}
	case !strings.HasSuffix(name, "example.org."):
		m.RCode = dnsmessage.RCodeNameError
	}
	p, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return p
}

// resolver is Go's own resolver, as it would run in the guest.
func (u *guest) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		to := fullAddress(Resolver, 53)
		if strings.HasPrefix(network, "udp") {
			return gonet.DialUDP(u.stack, nil, &to, ipv4.ProtocolNumber)
		}
		return gonet.DialContextTCP(ctx, u.stack, to, ipv4.ProtocolNumber)
	}}
}

func TestDNS(t *testing.T) {
	server := newUpstream(t)
	dead := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t))
	u := power(t, Rules{
		DNS:   []netip.AddrPort{dead, server.address},
		Hosts: map[string]netip.Addr{"Puppet.example.org": Router, "other.test": netip.MustParseAddr("192.0.2.44")},
	})
	r := u.resolver()
	for name, want := range map[string]string{"puppet.example.org": "10.0.2.2", "PUPPET.example.ORG.": "10.0.2.2", "other.test": "192.0.2.44", "example.org": "192.0.2.9"} {
		got, err := r.LookupHost(limited(t), name)
		if err != nil || !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if names, err := r.LookupAddr(limited(t), "192.0.2.44"); err != nil || !slices.Equal(names, []string{"other.test."}) {
		t.Errorf("%q, %v", names, err)
	}
	var missing *net.DNSError
	if _, err := r.LookupHost(limited(t), "nowhere.test."); !errors.As(err, &missing) || !missing.IsNotFound {
		t.Errorf("%v", err)
	}
	// 3 fit into a datagram, 100 do not, and are asked for again.
	for _, n := range []int{3, 100} {
		texts, err := r.LookupTXT(limited(t), fmt.Sprintf("%d.example.org.", n))
		if err != nil || len(texts) != n {
			t.Errorf("%d texts, %v", len(texts), err)
		}
	}
	for range len(server.asked) {
		asked := <-server.asked
		if strings.Contains(strings.ToLower(asked), "puppet") || strings.Contains(asked, "other.test") || strings.Contains(asked, "arpa") {
			t.Errorf("the server was asked for %s, which the rules know", asked)
		}
	}
}

func TestNoServerAnswers(t *testing.T) {
	u := power(t, Rules{DNS: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t))}})
	var failure *net.DNSError
	if _, err := u.resolver().LookupHost(limited(t), "example.org."); !errors.As(err, &failure) || failure.IsNotFound || !strings.Contains(failure.Err, "server misbehaving") {
		t.Errorf("%v", err)
	}
}

func TestNameservers(t *testing.T) {
	for text, want := range map[string][]string{
		"": {"127.0.0.1:53"},
		"# nameserver 1.1.1.1\nsearch x\nnameserver 127.0.0.53\nnameserver\tfe80::1%eth0 # the router\nnameserver x\noptions edns0\n": {"127.0.0.53:53", "[fe80::1%eth0]:53"},
	} {
		var got []string
		for _, s := range nameservers(text) {
			got = append(got, s.String())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	q := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("a.test."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	p, err := q.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	rules := Rules{Hosts: map[string]netip.Addr{"a.test": Router}, DNS: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}}
	f.Fuzz(func(t *testing.T, query []byte) {
		g := &Gateway{rules: rules, ctx: t.Context()}
		answer := g.answer(query, "udp")
		if answer == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(answer); err != nil || !m.Response {
			t.Fatalf("%x: %v", answer, err)
		}
		if len(cut(answer)) > len(query)+12 {
			t.Fatal("what is cut is longer than what was asked")
		}
	})
}
