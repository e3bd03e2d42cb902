package gateway

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	mtu       = 1500
	maxQueued = 4096 // frames that wait for the guest; what is beyond is lost, as on any link
	maxBatch  = 64   // frames that are written at once

	// maxFrame is what QEMU sends at most (NET_BUFSIZE), in bytes.
	maxFrame = 4096 + 65536

	lengthSize = 4
)

// errFrame says that the other end is no QEMU any more.
var errFrame = errors.New("QEMU sent a frame that is longer than its longest")

// readFrame reads one frame into p, which has room for maxFrame bytes, and returns
// the part that it fills.
func readFrame(r io.Reader, p []byte) ([]byte, error) {
	var length [lengthSize]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxFrame {
		return nil, fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	_, err := io.ReadFull(r, p[:n])
	return p[:n], err
}

// receive takes the guest's frames until the link ends.
func (g *Gateway) receive() {
	defer g.release(g.conn) // with bytes that cannot be understood there is no going on
	r := bufio.NewReaderSize(g.conn, 4*maxFrame)
	frame := make([]byte, maxFrame)
	for {
		p, err := readFrame(r, frame)
		if err != nil {
			return
		}
		if !admissible(p) {
			continue
		}
		packet := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(p)})
		g.link.InjectInbound(0, packet)
		packet.DecRef()
	}
}

// send writes to the guest what the stack has for it, until the link ends.
func (g *Gateway) send() {
	defer g.release(g.conn)
	var packets []*stack.PacketBuffer
	lengths := make([]byte, lengthSize*maxBatch)
	for {
		packet := g.link.ReadContext(g.ctx)
		if packet == nil {
			return
		}
		packets = packets[:0]
		var text net.Buffers
		for packet != nil {
			length := lengths[lengthSize*len(packets):][:lengthSize]
			binary.BigEndian.PutUint32(length, uint32(packet.Size()))
			text = append(append(text, length), packet.AsSlices()...)
			packets = append(packets, packet)
			packet = nil
			if len(packets) < maxBatch {
				packet = g.link.Read()
			}
		}
		_, err := text.WriteTo(g.conn)
		for _, p := range packets {
			p.DecRef()
		}
		if err != nil {
			return
		}
	}
}
