package buckettest

import (
	"net/http"
	"sync"
)

// maxInRow is how often one request fails in a row, which is less often than clients make it again.
const maxInRow = 4

// EveryThird has every third request fail, whoever makes it, but none more often in a row than clients bear. Requests
// of one method and address are the same. The zero value is ready.
type EveryThird struct {
	mu       sync.Mutex
	requests int
	inRow    map[string]int
}

// Fails tells whether a request fails. The number of its turn, from 1, chooses how.
func (e *EveryThird) Fails(r *http.Request) (turn int, fails bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.inRow == nil {
		e.inRow = map[string]int{}
	}
	e.requests++
	request := r.Method + " " + r.RequestURI
	if e.requests%3 != 0 || e.inRow[request] == maxInRow {
		delete(e.inRow, request)
		return 0, false
	}
	e.inRow[request]++
	return e.requests / 3, true
}

// Requests is how many came.
func (e *EveryThird) Requests() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.requests
}
