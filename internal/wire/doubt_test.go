package wire

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What says that the agent may be gone shortens the wait for it, and nothing more.
func TestDoubts(t *testing.T) {
	for name, c := range map[string]struct {
		silent time.Duration // how long the agent is silent before it goes on
		doubt  bool
		want   time.Duration // until it is given up; 0: it is heard to its end
	}{
		"no doubt":             {50 * time.Second, false, 0},
		"no doubt, too silent": {5 * time.Minute, false, time.Minute},
		"a doubt":              {14 * time.Second, true, 0},
		"a doubt, too silent":  {50 * time.Second, true, 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				doubt, never := make(chan struct{}), make(chan struct{})
				var begun time.Time
				ended := converse(t, t.Context(), Job{}, Terms{Resumed: true, Doubts: []<-chan struct{}{never, doubt, nil}}, func(conn net.Conn) {
					listen(conn)
					say(conn, `{"event":{"phase":"work"}}`)
					synctest.Wait()
					begun = time.Now()
					if c.doubt {
						close(doubt)
					}
					time.Sleep(c.silent)
					say(conn, `{"result":{"ok":true}}`)
				})
				if c.want == 0 {
					if ended.err != nil || !ended.result.OK {
						t.Errorf("%+v", ended)
					}
					return
				}
				// The line is closed under the agent, whose end is not waited for here.
				if took := ended.at.Sub(begun); !errors.Is(ended.err, ErrSilent) || took != c.want {
					t.Errorf("%v after %v, want it after %v", ended.err, took, c.want)
				}
			})
		})
	}
}

func TestAnAgentThatIsNeverHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ended := converse(t, t.Context(), Job{}, Terms{Hello: 7 * time.Minute}, func(conn net.Conn) { listen(conn) })
		if !errors.Is(ended.err, ErrSilent) || !strings.Contains(ended.err.Error(), "not heard within 7m0s") {
			t.Errorf("%v", ended.err)
		}
		if took := time.Since(start); took != 7*time.Minute {
			t.Errorf("it took %v", took)
		}
	})
}

// An agent that asks and does not hear the answer keeps nobody from the end.
func TestAnAgentThatHearsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ended := converse(t, t.Context(), Job{}, Terms{}, func(conn net.Conn) {
			say(conn, hello)
			listen(conn)
			say(conn, `{"ask":{"what":"sign"}}`, `{"result":{"ok":true}}`)
			time.Sleep(time.Hour) // with the line open
		})
		if took := ended.at.Sub(start); ended.err != nil || !ended.result.OK || took > 0 {
			t.Errorf("%+v after %v", ended, took)
		}
	})
}

// Nor do answers gather that nobody hears.
func TestAnAgentThatAsksAndAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answered := 0
		terms := Terms{Answer: func(context.Context, Ask) Answer { answered++; return Answer{} }}
		ended := converse(t, t.Context(), Job{}, terms, func(conn net.Conn) {
			say(conn, hello)
			listen(conn)
			for range 10 {
				say(conn, `{"ask":{"what":"sign"}}`)
				synctest.Wait() // until there is an answer
			}
		})
		if !errors.Is(ended.err, ErrSilent) || answered != 1 {
			t.Errorf("%v, %d answers", ended.err, answered)
		}
	})
}
