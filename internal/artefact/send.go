package artefact

import (
	"strconv"
	"time"
)

// maxRetryAfter is the longest that a service's wish is followed.
const maxRetryAfter = time.Minute

// RetryAfter is how long a service wants to be left alone, which says so by a header of
// that name (RFC 9110, 10.2.3): seconds, or a time, of which the header Date tells how far
// it is; 0 if it does not say.
func RetryAfter(wish, date string) time.Duration {
	if seconds, err := strconv.ParseUint(wish, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	then, err := time.Parse(time.RFC1123, wish)
	if err != nil {
		return 0
	}
	now, err := time.Parse(time.RFC1123, date)
	if err != nil {
		return 0
	}
	return min(max(0, then.Sub(now)), maxRetryAfter)
}
