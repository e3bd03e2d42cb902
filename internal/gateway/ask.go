package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// askTimeout bounds one question to one server.
const askTimeout = 3 * time.Second

// resolvConf names the host's name servers. It is read anew for every question, since
// a machine may outlive the network that its host was in.
const resolvConf = "/etc/resolv.conf"

// servers are those to be asked.
func (r Rules) servers() []netip.AddrPort {
	if len(r.DNS) > 0 {
		return r.DNS
	}
	text, err := os.ReadFile(resolvConf)
	if err != nil { // as the host's own resolver does without it
		text = nil
	}
	return nameservers(string(text))
}

// nameservers are those of a resolv.conf(5), which is of this host's own if it names none.
func nameservers(text string) []netip.AddrPort {
	var list []netip.AddrPort
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(words[1]); err == nil {
			list = append(list, netip.AddrPortFrom(a, dnsPort))
		}
	}
	if len(list) == 0 {
		list = append(list, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort))
	}
	return list
}

// ask asks a server and returns its answer as it came.
func (g *Gateway) ask(server netip.AddrPort, query []byte, network string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(g.ctx, askTimeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close() // it was read only
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if network == "tcp" {
		if err := writeMessage(conn, query); err != nil {
			return nil, err
		}
		answer, err := readMessage(conn, maxTCPAnswer)
		if err == nil && !answers(answer, query) {
			err = errors.New("the server answers another question")
		}
		return answer, err
	}
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	p := make([]byte, maxDatagram)
	for { // what is no answer to this was sent by somebody else
		n, err := conn.Read(p)
		if err != nil {
			return nil, err
		}
		if answers(p[:n], query) {
			return p[:n], nil
		}
	}
}

// answers tells whether a message answers a query.
func answers(message, query []byte) bool {
	var a, q dnsmessage.Parser
	head, err := a.Start(message)
	asked, queryErr := q.Start(query)
	if err != nil || queryErr != nil || !head.Response || head.ID != asked.ID {
		return false
	}
	want, err := q.Question()
	if err != nil {
		return false
	}
	got, err := a.Question()
	if errors.Is(err, dnsmessage.ErrSectionDone) { // an error may come without it
		return head.RCode != dnsmessage.RCodeSuccess
	}
	return err == nil && got.Type == want.Type && got.Class == want.Class && strings.EqualFold(got.Name.String(), want.Name.String())
}

// reverse is the name under which the name of an address is asked for.
func reverse(a [4]byte) string {
	return fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa", a[3], a[2], a[1], a[0])
}
