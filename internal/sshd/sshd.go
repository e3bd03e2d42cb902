// Package sshd is an SSH server for whoever has one key: it runs commands as any
// account of the system that it is in, by the account's own shell. It reads no
// configuration, writes nothing, and records no login, so that it leaves no trace. There
// are no terminals, no forwarding and no subsystems: what Ansible needs is all there is.
package sshd

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// Server serves connections. Its methods may be called from several goroutines.
type Server struct {
	config  *ssh.ServerConfig
	hostKey string
	more    []string // of the environment
}

// The bounds of what one client may have open at once.
const maxSessions = 64

// New makes a server with a host key that nobody had before, for whoever has the private
// key of authorized, a line as in authorized_keys. Commands have the environment, NAME=value,
// beside what every login has.
func New(authorized string, environment ...string) (*Server, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(authorized))
	if err != nil {
		return nil, fmt.Errorf("read the key that may come: %w", err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a host key: %w", err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, fmt.Errorf("make a host key: %w", err)
	}
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, offered ssh.PublicKey) (*ssh.Permissions, error) {
			if !bytes.Equal(offered.Marshal(), key.Marshal()) {
				return nil, errors.New("it is another key")
			}
			return nil, nil
		},
	}
	config.AddHostKey(signer)
	return &Server{config: config, more: environment, hostKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))}, nil
}

// HostKey is the server's public key, as in known_hosts behind the name.
func (s *Server) HostKey() string { return s.hostKey }

// Serve serves the connections of a listener until that is closed. All that runs for
// clients is ended then, but for what has left its session.
func (s *Server) Serve(l net.Listener) {
	var connections sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]struct{}{}
	for {
		conn, err := l.Accept()
		if err != nil {
			break
		}
		mu.Lock()
		open[conn] = struct{}{}
		mu.Unlock()
		connections.Go(func() {
			s.serve(conn)
			mu.Lock()
			delete(open, conn)
			mu.Unlock()
		})
	}
	mu.Lock()
	for conn := range open {
		_ = conn.Close() // its client learns it, or is gone
	}
	mu.Unlock()
	connections.Wait()
}

// serve serves one client, and returns when it has gone and nothing runs for it. What goes
// wrong in between is the client's to tell.
func (s *Server) serve(conn net.Conn) {
	defer conn.Close()
	client, channels, requests, err := ssh.NewServerConn(conn, s.config)
	if err != nil {
		return
	}
	defer client.Close()
	account, err := lookUp(client.User())
	if err != nil {
		return // as of an account that there is not
	}
	account.more = s.more
	var sessions sync.WaitGroup
	defer sessions.Wait()
	go ssh.DiscardRequests(requests) // ends with the client
	free := make(chan struct{}, maxSessions)
	for offered := range channels {
		if offered.ChannelType() != "session" {
			_ = offered.Reject(ssh.UnknownChannelType, "there are sessions only")
			continue
		}
		select {
		case free <- struct{}{}:
		default:
			_ = offered.Reject(ssh.ResourceShortage, "there are too many sessions")
			continue
		}
		channel, requests, err := offered.Accept()
		if err != nil {
			<-free
			continue
		}
		sessions.Go(func() {
			account.session(channel, requests)
			<-free
		})
	}
}
