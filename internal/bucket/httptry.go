package bucket

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// attempts is how often something is tried in all; the first wait is the shortest,
// each further one is twice as long, give or take a half, up to the longest. Of many
// who ask a server that fails every third time at once, one may meet that often.
const (
	attempts    = 10
	firstWait   = 200 * time.Millisecond
	longestWait = 5 * time.Second
)

// request is one to the server.
type request struct {
	method  string
	address *url.URL
	header  http.Header
	content Content // of a PUT
}

// do sends a request and gives a response of success, whose body is to be closed. An
// error that passes wraps errPassing.
func (b *web) do(ctx context.Context, r request) (*http.Response, error) {
	var body io.Reader
	if r.content != nil && r.content.Size() > 0 {
		body = io.NewSectionReader(r.content, 0, r.content.Size())
	}
	q, err := http.NewRequestWithContext(ctx, r.method, r.address.String(), body)
	if err != nil {
		return nil, err
	}
	if r.header != nil {
		q.Header = r.header.Clone()
	}
	q.Header.Set("User-Agent", "herdbook")
	q.Header.Set("Accept-Encoding", "identity")
	if b.options.Token != "" {
		q.Header.Set("Authorization", "Bearer "+string(b.options.Token))
	}
	if r.content != nil {
		q.ContentLength = r.content.Size()
		if body == nil {
			q.Body = http.NoBody
			q.Header.Del("Expect")
		}
	}
	response, err := b.client.Do(q)
	if err != nil {
		return nil, broken(ctx, err)
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	said, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	_ = response.Body.Close() // it is an error already
	if err != nil {
		said = nil
	}
	return nil, refused(response, strings.TrimSpace(string(said)))
}

// errPassing is wrapped by errors that may be gone the next time.
var errPassing = errors.New("tried again and again")

func passes(err error) bool {
	return errors.Is(err, errPassing) || errors.Is(err, io.ErrUnexpectedEOF) || isNetwork(err)
}

// isNetwork tells of errors in the middle of a body.
func isNetwork(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && !errors.Is(err, context.DeadlineExceeded)
}

// broken is the error of a request without a response. Certificates do not get better.
func broken(ctx context.Context, err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var certificate *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &certificate), errors.As(err, &header):
		return err
	}
	return fmt.Errorf("%w: %w", err, errPassing)
}

// refused is the error of a response, with what the server said.
func refused(response *http.Response, said string) error {
	what := fmt.Sprintf("the server says %s", response.Status)
	if strings.HasPrefix(said, fmt.Sprint(response.StatusCode)) { // herdbook's own words
		what = fmt.Sprintf("the server says %.300q", said)
	}
	switch code := response.StatusCode; {
	case code == http.StatusNotFound || code == http.StatusGone:
		return fmt.Errorf("%s: %w", what, fs.ErrNotExist)
	case code == http.StatusPreconditionFailed:
		return ErrChanged
	case code == http.StatusUnauthorized:
		return fmt.Errorf("%s: give the token of this server", what)
	case code == http.StatusForbidden:
		return fmt.Errorf("%s: the token that was given does not allow this", what)
	case code == http.StatusInsufficientStorage:
		return fmt.Errorf("%s: what was there before still is", what)
	case code/100 == 3:
		return fmt.Errorf("%s and leads to %.200s, where no token is taken: if that is right, give its address", what, leads(response))
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code >= http.StatusInternalServerError && code != http.StatusNotImplemented:
		return fmt.Errorf("%s: %w", what, errPassing)
	}
	return errors.New(what)
}

// leads is where a redirect goes, without what may be a secret in it.
func leads(response *http.Response) string {
	to, err := response.Location()
	if err != nil {
		return "nowhere"
	}
	to.RawQuery, to.Fragment = "", ""
	return to.Redacted()
}

// try does something until it succeeds, or fails for good.
func (b *web) try(ctx context.Context, attempt func() error) error {
	pause := firstWait
	for n := 1; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := attempt()
		if err == nil || !passes(err) || n == attempts || ctx.Err() != nil {
			return err
		}
		if waited := b.options.Wait(ctx, pause/2+rand.N(pause)); waited != nil {
			return errors.Join(waited, err)
		}
		pause = min(2*pause, longestWait)
	}
}

// wait waits for a time, or the end of ctx.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
