package serve

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// certificateAge is how long a certificate is used without a look at its files.
const certificateAge = time.Second

// certificate is that of the server, read anew when its files change, so that one
// that is renewed needs no restart. One that is wrong is told of and not taken.
type certificate struct {
	options Options

	mu      sync.Mutex
	current *tls.Certificate
	files   [2]identity
	looked  time.Time
}

// get is the certificate now.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.options.Now()
	if c.current != nil && now.Sub(c.looked) < certificateAge {
		return c.current, nil
	}
	files, err := c.look()
	if c.current != nil && err == nil && files == c.files {
		c.looked = now
		return c.current, nil
	}
	var fresh tls.Certificate
	if err == nil {
		fresh, err = tls.LoadX509KeyPair(c.options.Cert, c.options.Key)
	}
	if err == nil {
		c.current = &fresh
	} else {
		err = fmt.Errorf("read certificate %s and key %s: %w", c.options.Cert, c.options.Key, err)
	}
	if c.current == nil {
		return nil, err
	}
	if err != nil && (files != c.files || c.looked.IsZero()) {
		(&Server{options: c.options}).notice("%v; the one before goes on to be used", err)
	}
	c.files, c.looked = files, now
	return c.current, nil
}

// look tells which files there are. Links are followed: certificates are often
// behind one.
func (c *certificate) look() (files [2]identity, err error) {
	for i, path := range []string{c.options.Cert, c.options.Key} {
		info, err := os.Stat(path)
		if err != nil {
			return files, err
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			files[i] = identityOf(s)
		}
	}
	return files, nil
}
