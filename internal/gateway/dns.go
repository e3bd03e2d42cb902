package gateway

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sync/semaphore"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

const (
	dnsPort = 53

	// The bounds of DNS, in bytes: of a question, and of what a UDP answer carries,
	// beyond which the guest asks again over TCP.
	maxQuery     = 4096
	maxUDPAnswer = 4096
	maxTCPAnswer = 65535

	maxQueries = 64 // that are answered at one time; the others are asked again

	hostsTTL = 60 // seconds
)

// resolver is where the guest asks. What it asks by TCP comes as any other connection.
var resolver = netip.AddrPortFrom(Resolver, dnsPort)

// serveDNS answers the questions that the guest asks by UDP.
func (g *Gateway) serveDNS() error {
	local := fullAddress(Resolver, dnsPort)
	packets, err := gonet.DialUDP(g.stack, &local, nil, ipv4.ProtocolNumber)
	if err != nil {
		return err
	}
	g.keep(packets)
	g.running.Go(func() { g.answerPackets(packets) })
	return nil
}

func (g *Gateway) answerPackets(conn net.PacketConn) {
	free := semaphore.NewWeighted(maxQueries)
	p := make([]byte, maxQuery)
	for {
		n, from, err := conn.ReadFrom(p)
		if err != nil {
			return
		}
		if !free.TryAcquire(1) {
			continue
		}
		query := append([]byte(nil), p[:n]...)
		g.running.Go(func() {
			defer free.Release(1)
			answer := g.answer(query, "udp")
			if len(answer) > maxUDPAnswer {
				answer = cut(answer)
			}
			if answer != nil {
				_, _ = conn.WriteTo(answer, from) // who misses it asks again
			}
		})
	}
}

// answerStream answers the questions of a connection until it ends.
func (g *Gateway) answerStream(conn net.Conn) {
	for {
		query, err := readMessage(conn, maxQuery)
		if err != nil {
			return
		}
		answer := g.answer(query, "tcp")
		if answer == nil || writeMessage(conn, answer) != nil {
			return
		}
	}
}

// readMessage reads a message of DNS over TCP: behind its length in two bytes.
func readMessage(r io.Reader, bound int) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if n > bound {
		return nil, io.ErrShortBuffer
	}
	p := make([]byte, n)
	_, err := io.ReadFull(r, p)
	return p, err
}

func writeMessage(w io.Writer, p []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...))
	return err
}

// answer is the answer to a query, of the rules or of a server that is asked over the
// same network; nil if it is none that could have an answer.
func (g *Gateway) answer(query []byte, network string) []byte {
	var p dnsmessage.Parser
	head, err := p.Start(query)
	if err != nil || head.Response {
		return nil
	}
	question, err := p.Question()
	if err != nil || head.OpCode != 0 {
		return plain(head, nil, dnsmessage.RCodeNotImplemented)
	}
	if answer, ok := g.rules.lookUp(head, question); ok {
		return answer
	}
	for range 2 {
		for _, server := range g.rules.servers() {
			if answer, err := g.ask(server, query, network); err == nil {
				return answer
			}
		}
	}
	return plain(head, &question, dnsmessage.RCodeServerFailure)
}

// lookUp answers what is asked of a name of the rules, or of the address of one. Of
// what it does not have of a name there is nothing: another server's would be of
// another machine.
func (r Rules) lookUp(head dnsmessage.Header, q dnsmessage.Question) (answer []byte, ok bool) {
	if q.Class != dnsmessage.ClassINET {
		return nil, false
	}
	asked := strings.TrimSuffix(q.Name.String(), ".")
	var resources []dnsmessage.Resource
	for name, a := range r.Hosts {
		known := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: hostsTTL}
		switch {
		case strings.EqualFold(asked, name):
			ok = true
			if q.Type == dnsmessage.TypeA || q.Type == dnsmessage.TypeALL {
				resources = append(resources, dnsmessage.Resource{Header: known, Body: &dnsmessage.AResource{A: a.As4()}})
			}
		case q.Type == dnsmessage.TypePTR && strings.EqualFold(asked, reverse(a.As4())):
			ok = true
			if full, err := dnsmessage.NewName(name + "."); err == nil {
				resources = append(resources, dnsmessage.Resource{Header: known, Body: &dnsmessage.PTRResource{PTR: full}})
			}
		}
	}
	if !ok {
		return nil, false
	}
	return plain(head, &q, dnsmessage.RCodeSuccess, resources...), true
}

// plain is a message of our own.
func plain(head dnsmessage.Header, q *dnsmessage.Question, code dnsmessage.RCode, answers ...dnsmessage.Resource) []byte {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: head.ID, OpCode: head.OpCode, RecursionDesired: head.RecursionDesired,
			Response: true, RecursionAvailable: true, RCode: code,
		},
		Answers: answers,
	}
	if q != nil {
		m.Questions = []dnsmessage.Question{*q}
	}
	p, err := m.Pack()
	if err != nil { // a name that was read can be written
		return nil
	}
	return p
}

// cut is an answer without its content, which says that there is more.
func cut(answer []byte) []byte {
	var p dnsmessage.Parser
	head, err := p.Start(answer)
	if err != nil {
		return nil
	}
	question, err := p.Question()
	if err != nil {
		return nil
	}
	head.Truncated = true
	m := dnsmessage.Message{Header: head, Questions: []dnsmessage.Question{question}}
	short, err := m.Pack()
	if err != nil {
		return nil
	}
	return short
}
