package gateway

import (
	"net"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// lease is how long a guest may keep its address, which no other will want.
const lease = 24 * time.Hour

// serveDHCP answers the guest's DHCP client.
func (g *Gateway) serveDHCP() error {
	var queue waiter.Queue
	endpoint, err := g.stack.NewEndpoint(udp.ProtocolNumber, ipv4.ProtocolNumber, &queue)
	if err != nil {
		return failed(err)
	}
	endpoint.SocketOptions().SetBroadcast(true)
	conn := gonet.NewUDPConn(&queue, endpoint)
	g.keep(conn)
	if err := endpoint.Bind(tcpip.FullAddress{NIC: nic, Port: dhcpPort}); err != nil {
		return failed(err)
	}
	g.running.Go(func() {
		defer g.release(conn)
		p := make([]byte, mtu)
		for {
			n, _, err := conn.ReadFrom(p)
			if err != nil {
				return
			}
			reply, to := g.rules.dhcp(p[:n])
			if reply == nil {
				continue
			}
			_, _ = conn.WriteTo(reply, to) // a client asks again
		}
	})
	return nil
}

// dhcp is the answer to a DHCP message, and to whom; nil if there is none.
func (r Rules) dhcp(message []byte) (reply []byte, to net.Addr) {
	m, err := dhcpv4.FromBytes(message)
	if err != nil || m.OpCode != dhcpv4.OpcodeBootRequest {
		return nil, nil
	}
	if server := m.ServerIdentifier(); server != nil && !server.Equal(Router.AsSlice()) {
		return nil, nil // another one was chosen
	}
	options := []dhcpv4.Modifier{dhcpv4.WithServerIP(Router.AsSlice()), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(Router.AsSlice()))}
	switch kind := m.MessageType(); {
	case kind == dhcpv4.MessageTypeRequest && !wantsGuest(m):
		options = append(options, dhcpv4.WithMessageType(dhcpv4.MessageTypeNak))
	case kind == dhcpv4.MessageTypeDiscover:
		options = append(r.network(options, true), dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer))
	case kind == dhcpv4.MessageTypeRequest:
		options = append(r.network(options, true), dhcpv4.WithMessageType(dhcpv4.MessageTypeAck))
	case kind == dhcpv4.MessageTypeInform:
		options = append(r.network(options, false), dhcpv4.WithMessageType(dhcpv4.MessageTypeAck))
	default:
		return nil, nil
	}
	answer, err := dhcpv4.NewReplyFromRequest(m, options...)
	if err != nil {
		return nil, nil
	}
	// One that has its address may listen there only, any other to everybody.
	client := net.IPv4bcast
	if m.ClientIPAddr.Equal(Guest.AsSlice()) {
		client = m.ClientIPAddr
	}
	return answer.ToBytes(), &net.UDPAddr{IP: client, Port: dhcpv4.ClientPort}
}

// wantsGuest tells whether a client asks for the one address that there is.
func wantsGuest(m *dhcpv4.DHCPv4) bool {
	wanted := m.RequestedIPAddress()
	if wanted == nil {
		wanted = m.ClientIPAddr
	}
	return wanted.Equal(Guest.AsSlice())
}

// network is what a client is told of its network: with Alone, of no way out of it.
func (r Rules) network(options []dhcpv4.Modifier, address bool) []dhcpv4.Modifier {
	options = append(options, dhcpv4.WithNetmask(net.CIDRMask(subnet.Bits(), 32)))
	if address {
		options = append(options, dhcpv4.WithYourIP(Guest.AsSlice()), dhcpv4.WithLeaseTime(uint32(lease/time.Second)))
	}
	if !r.Alone {
		options = append(options, dhcpv4.WithRouter(Router.AsSlice()), dhcpv4.WithDNS(Resolver.AsSlice()))
	}
	return options
}
