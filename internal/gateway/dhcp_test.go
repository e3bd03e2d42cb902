package gateway

import (
	"net"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"herdbook/internal/peer"
)

var mac = net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}

// client is a DHCP client's socket: it sends to everybody and hears everything.
func (u *guest) client(t *testing.T) *gonet.UDPConn {
	t.Helper()
	var queue waiter.Queue
	e, failure := u.stack.NewEndpoint(udp.ProtocolNumber, ipv4.ProtocolNumber, &queue)
	peer.Must(t, failed(failure))
	e.SocketOptions().SetBroadcast(true)
	peer.Must(t, failed(e.Bind(tcpip.FullAddress{NIC: nic, Port: dhcpv4.ClientPort})))
	c := gonet.NewUDPConn(&queue, e)
	t.Cleanup(func() { _ = c.Close() })
	peer.Must(t, c.SetDeadline(time.Now().Add(soon)))
	return c
}

func exchange(t *testing.T, c *gonet.UDPConn, m *dhcpv4.DHCPv4, to net.IP) *dhcpv4.DHCPv4 {
	t.Helper()
	_, err := c.WriteTo(m.ToBytes(), &net.UDPAddr{IP: to, Port: 67})
	peer.Must(t, err)
	p := make([]byte, 1500)
	n, _, err := c.ReadFrom(p)
	peer.Must(t, err)
	answer, err := dhcpv4.FromBytes(p[:n])
	peer.Must(t, err)
	if answer.TransactionID != m.TransactionID {
		t.Error("the answer is another one's")
	}
	return answer
}

func TestDHCP(t *testing.T) {
	for _, alone := range []bool{false, true} {
		u := power(t, Rules{Alone: alone})
		c := u.client(t)
		discover, err := dhcpv4.NewDiscovery(mac)
		peer.Must(t, err)
		offer := exchange(t, c, discover, net.IPv4bcast)
		if offer.MessageType() != dhcpv4.MessageTypeOffer || !offer.YourIPAddr.Equal(Guest.AsSlice()) {
			t.Errorf("%s", offer.Summary())
		}
		request, err := dhcpv4.NewRequestFromOffer(offer)
		peer.Must(t, err)
		ack := exchange(t, c, request, net.IPv4bcast)
		ones, _ := ack.SubnetMask().Size()
		if ack.MessageType() != dhcpv4.MessageTypeAck || !ack.YourIPAddr.Equal(Guest.AsSlice()) || ones != 24 || ack.IPAddressLeaseTime(0) != 24*time.Hour {
			t.Errorf("%s", ack.Summary())
		}
		if alone {
			if len(ack.Router())+len(ack.DNS()) > 0 {
				t.Errorf("alone, it is led somewhere: %s", ack.Summary())
			}
			continue
		}
		if !ack.Router()[0].Equal(Router.AsSlice()) || !ack.DNS()[0].Equal(Resolver.AsSlice()) {
			t.Errorf("%s", ack.Summary())
		}
		renew, err := dhcpv4.NewRenewFromAck(ack)
		peer.Must(t, err)
		if again := exchange(t, c, renew, Router.AsSlice()); again.MessageType() != dhcpv4.MessageTypeAck {
			t.Errorf("%s", again.Summary())
		}
		inform, err := dhcpv4.NewInform(mac, Guest.AsSlice())
		peer.Must(t, err)
		if answer := exchange(t, c, inform, net.IPv4bcast); answer.MessageType() != dhcpv4.MessageTypeAck || !answer.YourIPAddr.IsUnspecified() {
			t.Errorf("%s", answer.Summary())
		}
		stranger, err := dhcpv4.New(dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(192, 168, 1, 7))))
		peer.Must(t, err)
		if answer := exchange(t, c, stranger, net.IPv4bcast); answer.MessageType() != dhcpv4.MessageTypeNak {
			t.Errorf("%s", answer.Summary())
		}
	}
}

func TestWhatDHCPLeavesAlone(t *testing.T) {
	for name, m := range map[string][]dhcpv4.Modifier{
		"another server's": {dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 2, 4)))},
		"an end":           {dhcpv4.WithMessageType(dhcpv4.MessageTypeRelease)},
		"no type":          {},
	} {
		m, err := dhcpv4.New(append(m, dhcpv4.WithHwAddr(mac))...)
		peer.Must(t, err)
		if reply, to := (Rules{}).dhcp(m.ToBytes()); reply != nil {
			t.Errorf("%s: answered to %s", name, to)
		}
	}
}

func FuzzDHCP(f *testing.F) {
	discover, err := dhcpv4.NewDiscovery(mac)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(discover.ToBytes())
	f.Fuzz(func(t *testing.T, p []byte) {
		reply, to := Rules{}.dhcp(p)
		if reply == nil {
			return
		}
		if _, err := dhcpv4.FromBytes(reply); err != nil {
			t.Fatalf("%v", err)
		}
		if ip := to.(*net.UDPAddr).IP; !ip.Equal(net.IPv4bcast) && !ip.Equal(Guest.AsSlice()) {
			t.Fatalf("an answer to %s", ip)
		}
	})
}
