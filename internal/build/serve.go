package build

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"herdbook/internal/gateway"
)

// onLoopback is what a guest calls a server on a port of the host's loopback.
func onLoopback(port int) string { return fmt.Sprintf("http://%s:%d", gateway.Router, port) }

// serve lets guests fetch the files of a directory of this machine. It returns the
// address that they find it at, until stop is called.
func serve(dir string) (address string, stop func() error, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", func() error { return nil }, fmt.Errorf("serve %s to the guest: %w", dir, err)
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	stop = func() error {
		err := server.Close()
		if ended := <-done; !errors.Is(ended, http.ErrServerClosed) {
			err = errors.Join(err, ended)
		}
		return err
	}
	return onLoopback(listener.Addr().(*net.TCPAddr).Port) + "/", stop, nil
}
