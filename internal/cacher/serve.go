package cacher

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
)

// preface is what the proxy wants to hear first on its socket, as in.acng, its own
// bridge to inetd, sends it.
const preface = "GET / HTTP/1.1\r\nX-Original-Source: 127.0.0.1\r\n\r\n"

// serve brings connections to the proxy's socket, until the listener is closed. A
// port of its own it could only have by a number that somebody else may take.
func (c *Cacher) serve() {
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.serving.Go(func() { c.connect(conn) })
	}
}

// connect passes bytes in both directions. Who talks to the proxy hears of what
// goes wrong by the end of the connection.
func (c *Cacher) connect(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", filepath.Join(c.run, socketName))
	if err != nil {
		return
	}
	defer server.Close()
	if _, err := io.WriteString(server, preface); err != nil {
		return
	}
	var passing sync.WaitGroup
	passing.Go(func() { pass(server.(*net.UnixConn), client) })
	passing.Go(func() { pass(client.(*net.TCPConn), server) })
	done := make(chan struct{})
	go func() { passing.Wait(); close(done) }()
	select {
	case <-done:
	case <-c.ending:
		_ = errors.Join(client.Close(), server.Close()) // ends both directions
		<-done
	}
}

// pass copies until the end of from, and tells it.
func pass(to interface {
	io.Writer
	CloseWrite() error
}, from io.Reader) {
	// An error of either is the end of the other, too.
	_, _ = io.Copy(to, from)
	_ = to.CloseWrite()
}
