package ext4

import "sync"

// cache keeps what was read lately: two generations, of which the older is
// dropped when the younger is full. It holds at most 2×limit entries.
type cache[K comparable, V any] struct {
	mu       sync.Mutex
	limit    int
	new, old map[K]V
}

func newCache[K comparable, V any](limit int) *cache[K, V] {
	return &cache[K, V]{limit: limit, new: map[K]V{}}
}

func (c *cache[K, V]) get(k K) (V, bool) {
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

func (c *cache[K, V]) put(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(k, v)
}

func (c *cache[K, V]) add(k K, v V) {
	if len(c.new) >= c.limit {
		c.new, c.old = map[K]V{}, c.new
	}
	c.new[k] = v
}
