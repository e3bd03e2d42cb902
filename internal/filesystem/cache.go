package filesystem

import "sync"

// Cache keeps what was read lately: two generations, of which the older is
// dropped when the younger is full. It holds at most 2×limit entries and is safe
// for concurrent use.
type Cache[K comparable, V any] struct {
	mu       sync.Mutex
	limit    int
	new, old map[K]V
}

// NewCache makes an empty cache.
func NewCache[K comparable, V any](limit int) *Cache[K, V] {
	return &Cache[K, V]{limit: limit, new: map[K]V{}}
}

// Get returns what was put under k, if it is still there.
func (c *Cache[K, V]) Get(k K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.new[k]
	if !ok {
		if v, ok = c.old[k]; ok {
			c.add(k, v)
		}
	}
	return v, ok
}

// Put keeps v under k.
func (c *Cache[K, V]) Put(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(k, v)
}

func (c *Cache[K, V]) add(k K, v V) {
	if len(c.new) >= c.limit {
		c.new, c.old = map[K]V{}, c.new
	}
	c.new[k] = v
}
