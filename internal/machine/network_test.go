package machine

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"herdbook/internal/gateway"
	"herdbook/internal/peer"
)

func TestAMachineWithoutANetworkCannotBeDialed(t *testing.T) {
	m := power(t, t.Context(), Spec{Disks: []Disk{bootDisk(t, sectorHang)}}, nil)
	if _, err := m.Dial(t.Context(), 22); err == nil || !strings.Contains(err.Error(), "no network") {
		t.Errorf("%v", err)
	}
}

// The network begins before the machine and ends with it; what the host has given for
// it is free then.
func TestTheNetworkEndsWithTheMachine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	peer.Must(t, err)
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	peer.Must(t, l.Close())
	spec := Spec{Disks: []Disk{bootDisk(t, sectorHang)}, Network: &gateway.Rules{Forward: []gateway.Forward{{Host: port, Guest: 22}}}}
	m := power(t, t.Context(), spec, nil)
	if _, err := Start(t.Context(), spec, nil); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("forward port %d", port)) {
		t.Errorf("a second machine on the same port: %v", err)
	}
	m.Kill()
	<-m.Done()
	l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	peer.Must(t, err)
	peer.Must(t, l.Close())
	if _, err := m.Dial(t.Context(), 22); err == nil {
		t.Error("it can be dialed behind its end")
	}
}
