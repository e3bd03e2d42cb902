package wire

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"herdbook/internal/event"
	"herdbook/internal/identity"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/puppet"
)

// heard collects events.
type heard struct {
	mu     sync.Mutex
	events []event.Event
}

func (h *heard) sink(e event.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
}

// ended is how the host's end of a conversation ended.
type ended struct {
	result Result
	err    error
	events []event.Event
	at     time.Time
}

// converse runs the host's end against an agent, who talks until its function
// returns, and then closes the line.
func converse(t *testing.T, ctx context.Context, job Job, terms Terms, agent func(net.Conn)) ended {
	t.Helper()
	host, guest := net.Pipe()
	defer host.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer guest.Close()
		agent(guest)
	}()
	var h heard
	result, err := Run(ctx, host, job, terms, h.sink)
	at := time.Now()
	peer.Must(t, host.Close())
	<-done
	return ended{result, err, h.events, at}
}

// say sends lines as an agent without manners.
func say(w io.Writer, lines ...string) {
	for _, line := range lines {
		if _, err := io.WriteString(w, line+"\n"); err != nil {
			return // the host has hung up, which is what some tests want
		}
	}
}

// listen reads one line, which is the job.
func listen(r io.Reader) string {
	line, _ := bufio.NewReader(r).ReadString('\n')
	return line
}

const hello = `{"hello":1}`

func TestConversation(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent()) // the beat ends with the result
	enabled := true
	job := Job{
		Mounts: []Mount{{3, "/", "ext4", "", ""}, {2, "/boot/efi", "vfat", "umask=0077", ""}}, Network: true, Files: true, Trim: true,
		Operations: []op.Envelope{{Operation: &op.Run{Script: "echo é\n", Environment: map[string]op.Secret{"T": {Value: "hunter2", Name: "T"}}}}, {Operation: &op.Service{Name: "ssh", Enabled: &enabled}}},
		Test: &Test{Checks: []Check{
			{Kind: "boots", Timeout: time.Minute, Commands: []op.CommandCheck{{Name: "uptime", Run: "uptime", Expect: "^u", ExitStatus: 1, User: "cow"}}},
			{Kind: "port", Port: &op.PortCheck{Port: 80, Protocol: "tcp", Address: "::1", Open: true, Wait: time.Second}},
			{Kind: "service", Service: &op.ServiceCheck{Name: "a", Running: true, Enabled: &enabled}},
			{Kind: "goss", Goss: &op.GossCheck{File: "/f", Vars: "/v", Program: "/p", Own: true}},
		}}, Identity: true, Redact: []string{"hunter2"},
	}
	want := Result{OK: true, Trimmed: 1 << 40, State: "running", Failed: []string{"a.service"}, Identity: []identity.Fact{{Name: "hostname", Value: "cow", Where: "/etc/hostname"}}}
	var got Job
	var second error
	e := converse(t, t.Context(), job, Terms{}, func(conn net.Conn) {
		g, taken, err := Accept(conn, time.Millisecond)
		if err != nil {
			t.Error(err)
			return
		}
		got = taken
		sink := g.Sink()
		sink.Emit(event.Event{Kind: event.Phase, Text: "run"})
		sink.Line(event.Stdout, "out \x00\x1b[31m ü")
		sink.Line(event.Stderr, "")
		sink.Emit(event.Event{Kind: event.Notice, Text: "not for the host"})
		passed := event.Verdict{Elapsed: time.Second, Cases: []event.Case{{Name: "uptime", Outcome: event.Passed, Output: "up\n", Elapsed: 1}}}
		for i := range job.Test.Checks {
			g.Check(i, nil)
			g.Check(i, &passed)
		}
		g.Phase("done")
		if err := g.Finish(want); err != nil {
			t.Error(err)
		}
		second = g.Finish(Result{})
	})
	if diff := cmp.Diff(job, got); diff != "" {
		t.Errorf("the job arrived otherwise (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, e.result); diff != "" || e.err != nil {
		t.Errorf("the result arrived otherwise (-want +got): %v\n%s", e.err, diff)
	}
	events := []event.Event{{Kind: event.Phase, Text: "run"}, {Kind: event.Log, Stream: event.Stdout, Text: "out \x00\x1b[31m ü"}, {Kind: event.Log, Stream: event.Stderr}}
	for i := range job.Test.Checks {
		events = append(events, event.Event{Kind: event.Checking, Done: int64(i)}, event.Event{
			Kind: event.Checked, Done: int64(i),
			Verdict: &event.Verdict{Elapsed: time.Second, Cases: []event.Case{{Name: "uptime", Outcome: event.Passed, Output: "up\n", Elapsed: 1}}},
		})
	}
	if diff := cmp.Diff(append(events, event.Event{Kind: event.Phase, Text: "done"}), e.events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if second == nil || !strings.Contains(second.Error(), "sent already") {
		t.Errorf("a second result: %v", second)
	}
}

func TestAFailedResultIsNoErrorHere(t *testing.T) {
	want := Result{Error: "the script ended with status 3", Operation: 2, ExitStatus: 3}
	e := converse(t, t.Context(), Job{}, Terms{}, func(conn net.Conn) {
		g, _, err := Accept(conn, time.Hour)
		peer.Must(t, err)
		peer.Must(t, g.Finish(want))
	})
	if diff := cmp.Diff(want, e.result); diff != "" || e.err != nil {
		t.Errorf("%v\n%s", e.err, diff)
	}
}

// What the job holds in clear is never in an event or an error, not even when it
// goes wrong.
func TestTheHostNeverTellsTheJob(t *testing.T) {
	job := Job{Operations: []op.Envelope{{Operation: &op.Password{User: "root", Password: op.Secret{Value: "hunter2", Name: "P"}}}}, Redact: []string{"hunter2"}}
	for name, agent := range map[string]func(net.Conn){
		"well": func(c net.Conn) {
			say(c, hello)
			listen(c)
			say(c, `{"event":{"phase":"password"}}`, `{"result":{"ok":true}}`)
		},
		"garbage":  func(c net.Conn) { say(c, hello); say(c, listen(c)) },
		"lost":     func(c net.Conn) { say(c, hello); listen(c) },
		"wrong":    func(c net.Conn) { say(c, `{"hello":2}`) },
		"deaf":     func(c net.Conn) { say(c, hello) },
		"no-words": func(net.Conn) {},
	} {
		e := converse(t, t.Context(), job, Terms{}, agent)
		if text := fmt.Sprintf("%v %+v", e.err, e.events); strings.Contains(text, "hunter2") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestAnAgentThatMisbehaves(t *testing.T) {
	for name, c := range map[string]struct {
		says []string // after it took the job; none: instead of hello
		want string
	}{
		"other protocol":      {[]string{`{"hello":2}`}, "the agent speaks protocol 2, herdbook 1"},
		"no hello":            {[]string{`{"beat":true}`}, "the agent speaks protocol 0"},
		"result before hello": {[]string{`{"result":{"ok":true}}`}, "the agent speaks protocol 0"},
		"garbage first":       {[]string{"\x1b[2J booting…"}, "hear the agent: invalid character"},
		"empty line":          {[]string{hello, ""}, "hear the agent: unexpected end of JSON"},
		"garbage":             {[]string{hello, "{]"}, "hear the agent: invalid character"},
		"no message":          {[]string{hello, "{}"}, "what is no message"},
		"unknown message":     {[]string{hello, `{"please":1}`}, "what is no message"},
		"hello again":         {[]string{hello, hello}, "what is no message"},
		"null":                {[]string{hello, "null"}, "what is no message"},
		"wrong type":          {[]string{hello, `{"result":"ok"}`}, "hear the agent: json: cannot unmarshal"},
		"array":               {[]string{hello, `[1]`}, "hear the agent: json: cannot unmarshal"},
		"unasked check":       {[]string{hello, `{"event":{"check":{"index":0}}}`}, "speaks of check 0 of 0 out of turn"},
		"long line":           {[]string{hello, `{"event":{"text":"` + strings.Repeat("x", maxMessage) + `"}}`}, fmt.Sprintf("hear the agent: a line has more than %d bytes", maxMessage)},
		"long first line":     {[]string{strings.Repeat(" ", maxMessage)}, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := converse(t, t.Context(), Job{}, Terms{}, func(conn net.Conn) {
				say(conn, c.says[0])
				if len(c.says) > 1 {
					listen(conn)
					say(conn, c.says[1:]...)
				}
			})
			if e.err == nil || !strings.Contains(e.err.Error(), c.want) || errors.Is(e.err, ErrLost) || len(e.events) > 0 {
				t.Errorf("%v and %v, want %q", e.err, e.events, c.want)
			}
		})
	}
}

// A machine that ends is told from an agent that talks nonsense, wherever it ends.
func TestALostAgent(t *testing.T) {
	for name, agent := range map[string]func(net.Conn){
		"at once":         func(net.Conn) {},
		"within hello":    func(c net.Conn) { io.WriteString(c, `{"hel`) },
		"before the job":  func(c net.Conn) { say(c, hello) },
		"within the job":  func(c net.Conn) { say(c, hello); io.ReadFull(c, make([]byte, 5)) },
		"after the job":   func(c net.Conn) { say(c, hello); listen(c) },
		"after an event":  func(c net.Conn) { say(c, hello); listen(c); say(c, `{"event":{"phase":"run"}}`) },
		"within a result": func(c net.Conn) { say(c, hello); listen(c); io.WriteString(c, `{"result":{"ok":true}`) },
		// It is whole as JSON, but its end was not sent.
		"before a line's end": func(c net.Conn) { say(c, hello); listen(c); io.WriteString(c, `{"result":{"ok":true}}`) },
	} {
		t.Run(name, func(t *testing.T) {
			e := converse(t, t.Context(), Job{Redact: []string{"x"}}, Terms{}, agent)
			if !errors.Is(e.err, ErrLost) {
				t.Errorf("%v, want %v", e.err, ErrLost)
			}
		})
	}
}

// A killed QEMU can end the connection by a reset.
func TestAResetConnectionIsALostAgent(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	peer.Must(t, err)
	defer listener.Close()
	go func() {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			return
		}
		say(conn, hello)
		io.ReadFull(conn, make([]byte, 1))
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}()
	conn, err := listener.Accept()
	peer.Must(t, err)
	defer conn.Close()
	if _, err := Run(t.Context(), conn, Job{}, Terms{}, nil); !errors.Is(err, ErrLost) {
		t.Errorf("%v, want %v", err, ErrLost)
	}
}

func TestSilenceIsFailure(t *testing.T) {
	hour := time.Hour
	for name, c := range map[string]struct {
		terms Terms
		agent func(net.Conn)
	}{
		"no hello":      {Terms{Hello: time.Millisecond, Silent: hour}, func(c net.Conn) { listen(c) }},
		"half a hello":  {Terms{Hello: time.Millisecond, Silent: hour}, func(c net.Conn) { io.WriteString(c, `{"he`); listen(c) }},
		"after hello":   {Terms{Hello: hour, Silent: time.Millisecond}, func(c net.Conn) { say(c, hello); listen(c); listen(c) }},
		"deaf":          {Terms{Hello: hour, Silent: time.Millisecond}, func(c net.Conn) { say(c, hello); io.ReadFull(c, make([]byte, 1)); waitClosed(c) }},
		"after a beat":  {Terms{Hello: hour, Silent: 10 * time.Millisecond}, func(c net.Conn) { say(c, hello); listen(c); say(c, `{"beat":true}`); listen(c) }},
		"after a phase": {Terms{Hello: hour, Silent: 10 * time.Millisecond}, func(c net.Conn) { say(c, hello); listen(c); say(c, `{"event":{"phase":"x"}}`); listen(c) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := converse(t, t.Context(), Job{Redact: []string{"x"}}, c.terms, c.agent)
			if !errors.Is(e.err, ErrSilent) {
				t.Errorf("%v, want %v", e.err, ErrSilent)
			}
		})
	}
}

// waitClosed writes what nobody reads, until the line is closed under it.
func waitClosed(c net.Conn) { io.Copy(c, zeros{}) }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// The beat carries a long work over any terms with silence.
func TestTheBeatKeepsTheHostListening(t *testing.T) {
	var beats int
	e := converse(t, t.Context(), Job{}, Terms{Silent: 5 * time.Second}, func(conn net.Conn) {
		g, _, err := Accept(counting{conn, &beats}, time.Millisecond)
		peer.Must(t, err)
		for n := 0; n < 5; { // it does nothing that the host hears
			g.mu.Lock()
			n = beats
			g.mu.Unlock()
		}
		peer.Must(t, g.Finish(Result{OK: true}))
	})
	if e.err != nil || !e.result.OK || len(e.events) > 0 {
		t.Errorf("%+v", e)
	}
}

// counting counts the beats that are written; the writer holds the guest's lock.
type counting struct {
	io.ReadWriter
	beats *int
}

func (c counting) Write(p []byte) (int, error) {
	n, err := c.ReadWriter.Write(p)
	if strings.Contains(string(p), "beat") {
		*c.beats++
	}
	return n, err
}

func TestRunEndsWithItsContext(t *testing.T) {
	cause := errors.New("the user has gone")
	for name, agent := range map[string]func(net.Conn, func()){
		"before hello": func(c net.Conn, cancel func()) { cancel(); listen(c) },
		"before the job is taken": func(c net.Conn, cancel func()) {
			say(c, hello)
			cancel()
			listen(c)
		},
		"while it works": func(c net.Conn, cancel func()) {
			say(c, hello)
			listen(c)
			say(c, `{"event":{"phase":"x"}}`)
			cancel()
			listen(c)
		},
		"while it talks": func(c net.Conn, cancel func()) {
			say(c, hello)
			listen(c)
			cancel()
			for c.SetDeadline(time.Time{}) == nil {
				if _, err := io.WriteString(c, `{"beat":true}`+"\n"); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			e := converse(t, ctx, Job{}, Terms{}, func(c net.Conn) { agent(c, func() { cancel(cause) }) })
			if !errors.Is(e.err, cause) {
				t.Errorf("%v, want %v", e.err, cause)
			}
		})
	}
}

// The line stays open: what to do with the machine is the caller's.
func TestRunLeavesTheConnectionOpen(t *testing.T) {
	host, guest := net.Pipe()
	defer host.Close()
	defer guest.Close()
	go func() {
		say(guest, hello)
		listen(guest)
		say(guest, `{"result":{"ok":true}}`, "and more")
	}()
	if _, err := Run(t.Context(), host, Job{}, Terms{}, nil); err != nil {
		t.Fatal(err)
	}
	if line := listen(host); line != "and more\n" {
		t.Errorf("the line is dead: %q", line)
	}
}

func TestAJobThatIsTooLargeIsNotSent(t *testing.T) {
	job := Job{Operations: []op.Envelope{{Operation: &op.File{Path: "/x", Content: strings.Repeat("x", maxJob)}}}}
	e := converse(t, t.Context(), job, Terms{}, func(c net.Conn) {
		say(c, hello)
		if rest := listen(c); rest != "" {
			t.Errorf("%d bytes of it were sent", len(rest))
		}
	})
	if e.err == nil || !strings.Contains(e.err.Error(), "lay large files down with copy") {
		t.Errorf("%v", e.err)
	}
}

// stream is a line of which only one end is there.
type stream struct {
	io.Reader
	io.Writer
}

func TestAcceptRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		in   io.Reader
		out  io.Writer
		want string
	}{
		"no host":       {strings.NewReader(""), io.Discard, "take the job: EOF"},
		"half a job":    {strings.NewReader(`{"network":true}`), io.Discard, "take the job: EOF"},
		"no job":        {strings.NewReader("what?\n"), io.Discard, "take the job: invalid character"},
		"unknown kind":  {strings.NewReader(`{"operations":[{"kind":"explode","arguments":{}}]}` + "\n"), io.Discard, `no kind "explode"`},
		"endless job":   {zeros{}, io.Discard, fmt.Sprintf("take the job: it has more than %d bytes", maxJob)},
		"host is deaf":  {strings.NewReader("{}\n"), &broken{}, "talk to the host: broken"},
		"job of bytes":  {io.LimitReader(zeros{}, 1000), io.Discard, "take the job: EOF"},
		"two at a time": {strings.NewReader("{} {}\n"), io.Discard, "take the job: invalid character"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := Accept(stream{c.in, c.out}, time.Hour); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

type broken struct{}

func (*broken) Write([]byte) (int, error) { return 0, errors.New("broken") }

// A host that has gone is no reason for the agent to end in the middle of work.
func TestTheGuestTalksOnWhenTheHostIsGone(t *testing.T) {
	g := &Guest{w: &broken{}, stop: make(chan struct{})}
	g.Phase("x")
	g.Sink().Line(event.Stdout, "x")
	g.beat(time.Microsecond) // returns at its first failure
	if err := g.Finish(Result{}); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("the result was lost without a word: %v", err)
	}
}

// Checks are begun and ended in their order, each once.
func TestAnAgentThatAnswersOutOfTurn(t *testing.T) {
	const begin, end = `{"event":{"check":{"index":%d}}}`, `{"event":{"check":{"index":%d,"verdict":{}}}}`
	for name, says := range map[string][]string{
		"end first":   {fmt.Sprintf(end, 0)},
		"begin twice": {fmt.Sprintf(begin, 0), fmt.Sprintf(begin, 0)},
		"end twice":   {fmt.Sprintf(begin, 0), fmt.Sprintf(end, 0), fmt.Sprintf(end, 0)},
		"end another": {fmt.Sprintf(begin, 0), fmt.Sprintf(end, 1)},
		"second":      {fmt.Sprintf(begin, 1)},
		"negative":    {fmt.Sprintf(begin, -1)},
		"too many":    {fmt.Sprintf(begin, 0), fmt.Sprintf(end, 0), fmt.Sprintf(begin, 1), fmt.Sprintf(end, 1), fmt.Sprintf(begin, 2)},
	} {
		e := converse(t, t.Context(), Job{Test: &Test{Checks: make([]Check, 2)}}, Terms{}, func(conn net.Conn) {
			say(conn, hello)
			listen(conn)
			say(conn, says...)
			listen(conn)
		})
		if e.err == nil || !strings.Contains(e.err.Error(), "out of turn") || len(e.events) != len(says)-1 {
			t.Errorf("%s: %v, %d events", name, e.err, len(e.events))
		}
	}
}

// Whatever an agent has to tell, it comes in messages that the host takes.
func TestEveryResultIsTaken(t *testing.T) {
	worst := strings.Repeat("\x01", MaxOutput) // 6 bytes each in JSON
	for _, cases := range []int{0, 1, 2, 16, 17, 500, 10_000} {
		v := event.Verdict{Text: strings.Repeat("é<", 4<<20)}
		for range cases {
			v.Cases = append(v.Cases, event.Case{Name: worst, Text: worst, Output: worst})
		}
		r := Result{Error: strings.Repeat("é<", 4<<20), Failed: []string{"a.service"}}
		resource := puppet.Resource{Name: worst, File: worst, Message: worst}
		r.Puppet = puppet.Outcome{Left: worst, Report: &puppet.Report{
			Slowest: slices.Repeat([]puppet.Resource{resource}, 100), Failures: slices.Repeat([]puppet.Resource{resource}, 100), Changes: slices.Repeat([]puppet.Resource{resource}, 100),
		}}.Rewrite(strings.Clone)
		const facts = 5000
		for range facts {
			r.Identity = append(r.Identity, identity.Fact{Name: "hostname", Value: worst[:256], Where: worst[:256]})
		}
		e := converse(t, t.Context(), Job{Test: &Test{Checks: make([]Check, 1)}}, Terms{}, func(conn net.Conn) {
			g, _, err := Accept(conn, time.Hour)
			peer.Must(t, err)
			g.Check(0, nil)
			g.Check(0, &v)
			peer.Must(t, g.Finish(r))
		})
		if n := len(e.result.Identity); n < 100 || n >= facts || len(r.Identity) != facts {
			t.Errorf("%d cases: %d facts of %d", cases, n, len(r.Identity))
		}
		if e.err != nil || len(e.result.Error) < MaxOutput || strings.Contains(e.result.Error, "�") || len(e.events) != 2 {
			t.Fatalf("%d cases: %v", cases, e.err)
		}
		got := e.events[1].Verdict
		if len(got.Cases) != min(cases, maxCases) || got.Passed() {
			t.Errorf("%d cases: %d came", cases, len(got.Cases))
		}
		for _, c := range got.Cases {
			if len(c.Output) < 60 || cases <= 4 && len(c.Output) != MaxOutput {
				t.Errorf("%d cases: %d bytes of output", cases, len(c.Output))
			}
		}
		if len(v.Cases) != cases || cases > 0 && len(v.Cases[0].Output) != MaxOutput {
			t.Error("the caller's own verdict was cut")
		}
	}
}

// The beat of a guest that has said all it had to say ends too.
func TestTheBeatEndsWithTheResult(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	g, _, err := Accept(stream{strings.NewReader("{}\n"), io.Discard}, time.Hour)
	peer.Must(t, err)
	peer.Must(t, g.Finish(Result{OK: true}))
}

// FuzzRun feeds the host what an agent in a hostile guest could say.
func FuzzRun(f *testing.F) {
	for _, seed := range []string{
		"", hello, hello + "\n", hello + "\n{}\n", hello + "\n" + `{"event":{"stream":"stdout","text":"x"}}` + "\n" + `{"beat":true}` + "\n" + `{"result":{"ok":true,"state":"a"}}` + "\n",
		hello + "\n" + `{"event":{"phase":"x","text":"y"}}` + "\n", hello + "\n\n\n", `{"hello":1,"result":{"ok":true}}` + "\n", strings.Repeat("[", 10000) + "\n", "\xff\xfe\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		host, guest := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.Copy(io.Discard, guest)
		}()
		go func() {
			guest.Write(said)
			guest.Close()
		}()
		var h heard
		result, err := Run(t.Context(), host, Job{Redact: []string{"hunter2"}}, Terms{}, h.sink)
		host.Close()
		guest.Close()
		<-done
		if err == nil {
			// Success is a whole line that says so, after a hello.
			lines := strings.Split(string(said), "\n")
			var last message
			for _, line := range lines[1 : len(lines)-1] {
				if json.Unmarshal([]byte(line), &last) == nil && last.Result != nil {
					break
				}
			}
			if last.Result == nil || last.Result.OK != result.OK {
				t.Errorf("%q gave a result: %+v", said, result)
			}
		}
		for _, e := range h.events {
			if e.Kind != event.Phase && e.Kind != event.Log {
				t.Errorf("%q made an event %v", said, e)
			}
		}
	})
}

func TestCheckBoot(t *testing.T) {
	for _, c := range []struct {
		result Result
		want   string
	}{
		{Result{State: "running"}, ""},
		{Result{State: "degraded"}, ""}, // of which no unit is the cause any more
		{Result{State: "degraded", Failed: []string{"a.service", "b.mount"}}, "failed units: a.service, b.mount"},
		{Result{State: "starting"}, `the system came to the state "starting"`},
	} {
		if err := c.result.CheckBoot(); c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
			t.Errorf("%+v: %v", c.result, err)
		}
	}
}
