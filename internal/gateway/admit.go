package gateway

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// dhcpPort is where a DHCP server listens.
const dhcpPort = 67

// admissible tells whether a frame of the guest's is one that the gateway has to do
// with: ARP for the gateway's addresses, or IPv4 from the one address that the guest
// has. The stack, which takes everything for its own, sees no other.
func admissible(frame []byte) bool {
	if len(frame) < header.EthernetMinimumSize {
		return false
	}
	switch content := frame[header.EthernetMinimumSize:]; header.Ethernet(frame).Type() {
	case header.ARPProtocolNumber:
		return admissibleARP(content)
	case header.IPv4ProtocolNumber:
		return admissibleIP(content)
	}
	return false
}

func admissibleARP(p []byte) bool {
	h := header.ARP(p)
	if len(p) < header.ARPSize || !h.IsValid() {
		return false
	}
	from, to := addr(h.ProtocolAddressSender()), addr(h.ProtocolAddressTarget())
	switch h.Op() {
	case header.ARPRequest: // with no sender when it looks whether an address is free
		return (from == Guest || from.IsUnspecified()) && (to == Router || to == Resolver)
	case header.ARPReply:
		return from == Guest
	}
	return false
}

func admissibleIP(p []byte) bool {
	h := header.IPv4(p)
	if !h.IsValid(len(p)) {
		return false
	}
	from, to := addr(h.SourceAddressSlice()), addr(h.DestinationAddressSlice())
	isDHCP := h.TransportProtocol() == header.UDPProtocolNumber && len(h.Payload()) >= header.UDPMinimumSize && header.UDP(h.Payload()).DestinationPort() == dhcpPort
	if isDHCP { // from nobody yet, to everybody
		return from == Guest || from.IsUnspecified()
	}
	if to.IsLoopback() { // no host lets that in from a link
		return false
	}
	switch h.TransportProtocol() {
	case header.TCPProtocolNumber, header.UDPProtocolNumber:
		return from == Guest
	case header.ICMPv4ProtocolNumber: // or it would answer in the name of the world
		return from == Guest && (to == Router || to == Resolver)
	}
	return false
}

func addr(p []byte) netip.Addr { return netip.AddrFrom4([4]byte(p)) }
