package serve

import (
	"io"
	"net/http"
)

// pieceSize is what a stream of a multiplexed connection must take within the idle
// period, in bytes.
const pieceSize = 32 << 10

// answer counts what is sent, and does not stand between a file and the kernel.
type answer struct {
	http.ResponseWriter
	server      *Server
	multiplexed bool // HTTP/2, where a stream can stall while its connection lives
	status      int
	sent        int64 // bytes of the body
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader notes the status.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusOK {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write sends p; as long as it is taken, that may take any time.
func (a *answer) Write(p []byte) (n int, err error) {
	a.status = def(a.status, http.StatusOK)
	if !a.multiplexed {
		n, err = a.ResponseWriter.Write(p)
		a.sent += int64(n)
		return n, err
	}
	control := http.NewResponseController(a.ResponseWriter)
	for first := true; err == nil && (first || n < len(p)); first = false {
		if err = control.SetWriteDeadline(a.server.options.Now().Add(a.server.options.Idle)); err != nil {
			break
		}
		var m int
		m, err = a.ResponseWriter.Write(p[n:min(n+pieceSize, len(p))])
		n += m
	}
	a.sent += int64(n)
	return n, err
}

// ReadFrom sends what src has: by sendfile(2), if it is a file and the connection
// is a plain one.
func (a *answer) ReadFrom(src io.Reader) (int64, error) {
	direct, ok := a.ResponseWriter.(io.ReaderFrom)
	if !ok || a.multiplexed {
		return io.Copy(struct{ io.Writer }{a}, src)
	}
	a.status = def(a.status, http.StatusOK)
	n, err := direct.ReadFrom(src)
	a.sent += n
	return n, err
}
