package build

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"herdbook/internal/cacher"
	"herdbook/internal/event"
	"herdbook/internal/program"
)

// packages is the proxy through which installers fetch packages. It is started
// for the first of them and serves all of one build.
type packages struct {
	dir string // of the proxy; "" if there shall be none

	once   sync.Once
	cacher *cacher.Cacher
}

// address is where a guest finds the proxy; "" if there is none. A build goes on
// without one.
func (p *packages) address(ctx context.Context, sink event.Sink) string {
	p.once.Do(func() {
		if p.dir == "" {
			return
		}
		c, err := cacher.Start(ctx, p.dir)
		var missing *program.MissingError
		switch {
		case err == nil:
			p.cacher = c
		case errors.As(err, &missing) || ctx.Err() != nil: // who wants it is told by the doctor
		default:
			sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("packages are fetched anew, and not kept: %v", err)})
		}
	})
	if p.cacher == nil {
		return ""
	}
	return onLoopback(p.cacher.Port())
}

// close ends the proxy, when no machine runs any more.
func (p *packages) close() error {
	if p.cacher == nil {
		return nil
	}
	return p.cacher.Close()
}
