package tunnel

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"herdbook/internal/peer"
)

// pair is a tunnel over a line that is a pipe, and what serves each connection at its end.
func pair(t *testing.T, serve func(net.Conn)) *Entrance {
	t.Helper()
	host, guest := net.Pipe()
	out, err := Leave(guest)
	peer.Must(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := out.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	in, err := Enter(host)
	peer.Must(t, err)
	t.Cleanup(func() {
		in.Close()
		peer.Must(t, out.Close())
		serving.Wait()
	})
	return in
}

func dial(t *testing.T, e *Entrance) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", e.Port()))
	peer.Must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

func TestBytesPassInBothDirections(t *testing.T) {
	in := pair(t, func(conn net.Conn) { io.Copy(conn, conn) })
	var all sync.WaitGroup
	for n := range 8 {
		conn := dial(t, in)
		all.Go(func() {
			random := rand.NewChaCha8([32]byte{byte(n)})
			sent := make([]byte, 3<<20)
			random.Read(sent)
			go func() {
				conn.Write(sent)
				conn.CloseWrite() // what comes back is read all the same
			}()
			got, err := io.ReadAll(conn)
			if err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%d bytes of %d came back: %v", len(got), len(sent), err)
			}
		})
	}
	all.Wait()
}

// A server that speaks and hangs up is heard to the end.
func TestTheGuestHangsUp(t *testing.T) {
	in := pair(t, func(conn net.Conn) { io.WriteString(conn, "good bye") })
	for range 100 {
		got, err := io.ReadAll(dial(t, in))
		if err != nil || string(got) != "good bye" {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

func TestTooManyConnections(t *testing.T) {
	in := pair(t, func(conn net.Conn) { io.Copy(conn, conn) })
	say := func(conn net.Conn) bool {
		answer := make([]byte, 1)
		_, err := conn.Write([]byte("x"))
		if err == nil {
			_, err = io.ReadFull(conn, answer)
		}
		return err == nil
	}
	var open []net.Conn
	for n := range maxConnections {
		conn := dial(t, in)
		open = append(open, conn)
		if !say(conn) {
			t.Fatalf("connection %d was refused", n)
		}
	}
	if say(dial(t, in)) {
		t.Error("one more was served")
	}
	for _, conn := range open {
		conn.Close()
	}
}

// Whichever end goes first, nobody waits for ever, and nothing is left.
func TestTheTunnelEnds(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, end := range []func(*Entrance, net.Listener, net.Conn){
		func(e *Entrance, _ net.Listener, _ net.Conn) { e.Close() },
		func(_ *Entrance, l net.Listener, _ net.Conn) { l.Close() },
		func(_ *Entrance, _ net.Listener, line net.Conn) { line.Close() },
	} {
		host, guest := net.Pipe()
		out, err := Leave(guest)
		peer.Must(t, err)
		in, err := Enter(host)
		peer.Must(t, err)
		conn := dial(t, in)
		there, err := out.Accept()
		peer.Must(t, err)
		end(in, out, guest)
		if _, err := io.ReadAll(conn); err == nil {
			if _, err := there.Write([]byte("x")); err == nil {
				t.Error("the connection lives on")
			}
		}
		conn.Close()
		there.Close()
		in.Close()
		out.Close()
	}
}

// FuzzEnter gives the host's end what a hostile guest could send.
func FuzzEnter(f *testing.F) {
	for _, seed := range []string{"", "\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x00", "\x00\x01\x00\x02\x00\x00\x00\x01\x7f\xff\xff\xff", "\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "\x01"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		host, guest := net.Pipe()
		go io.Copy(io.Discard, guest)
		in, err := Enter(host)
		peer.Must(t, err)
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", in.Port()))
		peer.Must(t, err)
		guest.Write(said)
		guest.Close()
		io.Copy(io.Discard, conn)
		conn.Close()
		in.Close()
	})
}
