package serve

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"herdbook/internal/peer"
)

// noise are n bytes that do not repeat.
func noise(n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(p) // never fails
	return p
}

func TestAWriteTakesAnyTimeWhileSomeOfItIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := &conn{Conn: ours, now: time.Now, idle: time.Minute, release: func() {}}
		sent := noise(50)
		got := make([]byte, 0, len(sent))
		taken := make(chan struct{})
		go func() {
			defer close(taken)
			for len(got) < len(sent) {
				time.Sleep(50 * time.Second)
				var one [1]byte
				n, err := theirs.Read(one[:])
				if err != nil {
					t.Error(err)
				}
				got = append(got, one[:n]...)
			}
		}()
		start := time.Now()
		if n, err := c.Write(sent); n != len(sent) || err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
		<-taken
		if took := time.Since(start); !bytes.Equal(got, sent) || took != 50*50*time.Second {
			t.Errorf("%d bytes in %v", len(got), took)
		}
		// Nothing is taken any more.
		start = time.Now()
		if n, err := c.Write(sent); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) > 3*time.Minute {
			t.Errorf("%d bytes in %v: %v", n, time.Since(start), err)
		}
		// A limit of somebody else's is kept.
		peer.Must(t, c.SetDeadline(time.Now().Add(time.Second)))
		start = time.Now()
		if _, err := c.Write(sent); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		peer.Must(t, errors.Join(c.Close(), theirs.Close()))
	})
}

// pair is a connection over the loopback whose idle period is short; it tells
// renewed whenever a write is given another one.
func pair(t *testing.T, idle time.Duration) (ours *conn, theirs *net.TCPConn, renewed chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	peer.Must(t, err)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	peer.Must(t, err)
	server, err := l.Accept()
	peer.Must(t, err)
	theirs, _ = client.(*net.TCPConn)
	peer.Must(t, theirs.SetReadBuffer(64<<10))
	renewed = make(chan struct{}, 1)
	ours = &conn{Conn: server, idle: idle, release: func() {}, now: func() time.Time {
		select {
		case renewed <- struct{}{}:
		default:
		}
		return time.Now()
	}}
	t.Cleanup(func() { peer.Must(t, errors.Join(ours.Close(), theirs.Close())) })
	return ours, theirs, renewed
}

func TestAFileIsSentWholeToASlowClient(t *testing.T) {
	content := noise(12 << 20)
	path := filepath.Join(t.TempDir(), "file")
	peer.Must(t, os.WriteFile(path, content, 0o644))
	for what, send := range map[string]func(*conn, *os.File) (int64, error){
		"all of it":  func(c *conn, f *os.File) (int64, error) { return c.ReadFrom(f) },
		"as a range": func(c *conn, f *os.File) (int64, error) { return c.ReadFrom(io.LimitReader(f, int64(len(content)))) },
		"a part":     func(c *conn, f *os.File) (int64, error) { return c.ReadFrom(&part{file: f, size: int64(len(content))}) },
		"a part behind its head": func(c *conn, f *os.File) (int64, error) {
			c.hold(make([]byte, maxHeld), nil, nil)
			if _, err := c.Write(content[:100]); err != nil {
				return 0, err
			}
			n, err := c.ReadFrom(&part{file: f, at: 100, size: int64(len(content))})
			return n + 100, errors.Join(err, c.letGo())
		},
		"the rest of what is in memory": func(c *conn, f *os.File) (int64, error) {
			c.hold(make([]byte, maxHeld), content, f)
			if _, err := c.Write(content[:100]); err != nil {
				return 0, err
			}
			n, err := c.Write(content[100:])
			return int64(n) + 100, errors.Join(err, c.letGo())
		},
		"from memory": func(c *conn, _ *os.File) (int64, error) {
			n, err := c.Write(content)
			return int64(n), err
		},
		"from memory behind its head": func(c *conn, _ *os.File) (int64, error) {
			c.hold(make([]byte, maxHeld), nil, nil)
			if _, err := c.Write(content[:100]); err != nil {
				return 0, err
			}
			n, err := c.Write(content[100:])
			return int64(n) + 100, errors.Join(err, c.letGo())
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			ours, theirs, renewed := pair(t, 500*time.Millisecond) // more than a busy machine keeps the client waiting
			f, err := os.Open(path)
			peer.Must(t, err)
			defer f.Close()
			type result struct {
				n   int64
				err error
			}
			ended := make(chan result, 1)
			go func() {
				n, err := send(ours, f)
				ended <- result{n, errors.Join(err, ours.Conn.(*net.TCPConn).CloseWrite())}
			}()
			// It takes a piece only when the server waits for it, five times; then the rest.
			got := make([]byte, 0, len(content))
			for range 5 {
				<-renewed
				piece := make([]byte, 256<<10)
				_, err := io.ReadFull(theirs, piece)
				peer.Must(t, err)
				got = append(got, piece...)
			}
			rest, err := io.ReadAll(theirs)
			peer.Must(t, err)
			if got = append(got, rest...); !bytes.Equal(got, content) {
				t.Errorf("%d bytes came of %d, or others", len(got), len(content))
			}
			if r := <-ended; r.n != int64(len(content)) || r.err != nil {
				t.Errorf("%d bytes sent: %v", r.n, r.err)
			}
		})
	}
}

func TestAClientThatTakesNothingIsCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	peer.Must(t, os.WriteFile(path, noise(12<<20), 0o644))
	for what, source := range map[string]func(f *os.File) io.Reader{
		"all of it": func(f *os.File) io.Reader { return f },
		"a part":    func(f *os.File) io.Reader { return &part{file: f, size: 12 << 20} },
		"a copy":    func(f *os.File) io.Reader { return struct{ io.Reader }{f} },
	} {
		ours, _, _ := pair(t, 20*time.Millisecond)
		f, err := os.Open(path)
		peer.Must(t, err)
		if n, err := ours.ReadFrom(source(f)); !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 {
			t.Errorf("%s: %d bytes: %v", what, n, err)
		}
		peer.Must(t, f.Close())
	}
}

func TestAFileThatWasCutIsNotWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	peer.Must(t, os.WriteFile(path, noise(1000), 0o644))
	f, err := os.Open(path)
	peer.Must(t, err)
	defer f.Close()
	ours, _, _ := pair(t, 20*time.Millisecond)
	if n, err := ours.ReadFrom(&part{file: f, size: 2000}); n != 1000 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d bytes: %v", n, err)
	}
}

// pipes is a listener whose connections are pipes, for a time that is not the world's.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	close(l.done)
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (l *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	l.conns <- theirs
	return ours
}

func TestClientsThatWasteTime(t *testing.T) {
	const put = "PUT /new HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\nContent-Length: 100\r\n\r\n"
	for _, test := range []struct {
		what, at string        // what is sent at once
		every    time.Duration // then one byte each
		bytes    int
		answer   string        // how the answer begins
		within   time.Duration // of all
		least    time.Duration
	}{
		{"a header byte by byte", "GET /index HTTP/1.1\r\nHost: x\r\nX: ", time.Second, 1000, "", 12 * time.Second, 9 * time.Second},
		{"no request", "", 0, 0, "", 12 * time.Second, 9 * time.Second},
		{"no second request", "GET /boot.ipxe HTTP/1.1\r\nHost: x\r\n\r\n", 0, 0, "HTTP/1.1 200 OK", 61 * time.Second, 59 * time.Second},
		{"a body that stands still", put + "some", 0, 0, "HTTP/1.1 408 Request Timeout", 3 * time.Minute, time.Minute},
		{"a body that comes slowly", put, 50 * time.Second, 100, "HTTP/1.1 201 Created", 90 * time.Minute, 80 * time.Minute},
		{"a body that nobody wants", "GET /index HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", 0, 0, "HTTP/1.1 200 OK", 3 * time.Minute, 0},
		{"a body that nobody may send", strings.ReplaceAll(put, "secret", "wrong"), 0, 0, "HTTP/1.1 401 Unauthorized", 3 * time.Minute, 0},
	} {
		t.Run(test.what, func(t *testing.T) {
			dir := repository(t)
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, dir, func(o *Options) { o.Uploaders = []Credential{Token("secret")} })
				l := &pipes{make(chan net.Conn), make(chan struct{})}
				served := make(chan error, 1)
				go func() { served <- s.HTTP.Serve(s.bound(l)) }()
				c := l.dial()
				start := time.Now()
				var writer sync.WaitGroup
				writer.Go(func() {
					_, err := c.Write([]byte(test.at))
					for range test.bytes {
						if err != nil {
							return // it was cut
						}
						time.Sleep(test.every)
						_, err = c.Write([]byte("x"))
					}
				})
				answer, _ := io.ReadAll(c) // the end may be an error: it was cut
				took := time.Since(start)
				if !strings.HasPrefix(string(answer), test.answer) || test.answer == "" && len(answer) > 0 {
					t.Errorf("%.60q", answer)
				}
				if took > test.within || took < test.least {
					t.Errorf("it took %v", took)
				}
				peer.Must(t, errors.Join(c.Close(), s.HTTP.Close()))
				writer.Wait()
				if err := <-served; !errors.Is(err, http.ErrServerClosed) {
					t.Error(err)
				}
			})
		})
	}
}
