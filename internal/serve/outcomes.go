package serve

import (
	"context"
	"sync"

	"herdbook/internal/bucket"
)

// maxOutcomes is how many uploads are remembered.
const maxOutcomes = 4096

// outcomes remembers uploads by their Idempotency-Key, so that a client whose
// connection broke can ask again, and learns what became of its own upload, even if
// somebody else has written the object since.
type outcomes struct {
	mu    sync.Mutex
	known map[string]*outcome
	order []string // of the keys, the oldest first
}

// outcome is what became of an upload; it may be read when done is closed.
type outcome struct {
	done   chan struct{}
	made   bool
	isNew  bool
	object bucket.Object
}

// claim gives the outcome of an upload that was made, or else a new one, which the
// caller makes and then settles. It waits for one that is being made.
func (c *outcomes) claim(ctx context.Context, key string) (*outcome, error) {
	for {
		c.mu.Lock()
		o := c.known[key]
		if o == nil {
			o = &outcome{done: make(chan struct{})}
			c.remember(key, o)
			c.mu.Unlock()
			return o, nil
		}
		c.mu.Unlock()
		select {
		case <-o.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if o.made {
			return o, nil
		}
	}
}

func (c *outcomes) remember(key string, o *outcome) {
	if c.known == nil {
		c.known = map[string]*outcome{}
	}
	c.known[key] = o
	c.order = append(c.order, key)
	if len(c.order) > maxOutcomes {
		delete(c.known, c.order[0])
		c.order = c.order[1:]
	}
}

// settle says what became of an upload. One that failed may be made anew.
func (c *outcomes) settle(key string, o *outcome) {
	if !o.made {
		c.mu.Lock()
		if c.known[key] == o {
			delete(c.known, key)
		}
		c.mu.Unlock()
	}
	close(o.done)
}
