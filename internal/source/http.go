package source

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

func (f *Fetcher) openHTTP(ctx context.Context, address string, offset int64) (*body, int64, error) {
	ctx, touch, stop := f.impatient(ctx)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		stop()
		return nil, 0, fmt.Errorf("fetch %s: %w", shown(address), err)
	}
	request.Header.Set("User-Agent", "herdbook")
	// As the bytes are: packed ones would not have the digest, nor the ranges.
	request.Header.Set("Accept-Encoding", "identity")
	if f.Token.Value != "" {
		request.Header.Set("Authorization", "Bearer "+f.Token.Value)
	}
	if offset > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	client := http.Client{CheckRedirect: follow}
	if client.Transport, err = f.through(); err != nil {
		stop()
		return nil, 0, fmt.Errorf("fetch %s: %w", shown(address), err)
	}
	response, err := client.Do(request)
	if errors.Is(err, errDowngraded) {
		stop()
		return nil, 0, fmt.Errorf("fetch %s: %w", shown(address), plainer(ctx, err))
	}
	if err != nil {
		stop()
		return nil, 0, fmt.Errorf("fetch %s: %w: %w", shown(address), ErrUnreachable, plainer(ctx, err))
	}
	start, err := accept(response, offset)
	if err != nil {
		stop()
		return nil, 0, errors.Join(fmt.Errorf("fetch %s: %w", shown(address), err), response.Body.Close())
	}
	return &body{
		ReadCloser: response.Body,
		ctx:        ctx,
		length:     response.ContentLength,
		touch:      touch,
		stop:       stop,
	}, start, nil
}

// through is what goes by the proxy that is wanted.
func (f *Fetcher) through() (http.RoundTripper, error) {
	if f.Proxy == "" {
		return f.transport, nil
	}
	by := http.DefaultTransport.(*http.Transport).Clone()
	by.Proxy, by.DisableKeepAlives = nil, true // it serves one fetch
	if f.Proxy != "off" {
		proxy, err := url.Parse(f.Proxy)
		if err != nil {
			return nil, errors.New("the proxy is no URL") // which may have a password
		}
		by.Proxy = http.ProxyURL(proxy)
	}
	return by, nil
}

// impatient returns a context that ends when touch is not called for too long.
func (f *Fetcher) impatient(ctx context.Context) (_ context.Context, touch, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stall := f.Stall
	if stall == 0 {
		stall = 30 * time.Second
	}
	timer := time.AfterFunc(stall, func() { cancel(errStalled) })
	return ctx, func() { timer.Reset(stall) }, func() { timer.Stop(); cancel(nil) }
}

// follow decides about a redirect. What came by HTTPS may vouch for itself, so it
// must not have come by HTTP on its last way.
func follow(to *http.Request, via []*http.Request) error {
	switch from := via[len(via)-1].URL; {
	case from.Scheme == "https" && to.URL.Scheme != "https":
		return fmt.Errorf("%w (%s)", errDowngraded, to.URL)
	case len(via) >= 10:
		return errors.New("redirected too often")
	}
	return nil
}

// accept checks the status and tells where the body starts.
func accept(response *http.Response, offset int64) (int64, error) {
	switch response.StatusCode {
	case http.StatusOK:
		return 0, nil
	case http.StatusPartialContent:
		var start int64
		if _, err := fmt.Sscanf(response.Header.Get("Content-Range"), "bytes %d-", &start); err != nil || start != offset {
			return 0, fmt.Errorf("%w: asked for bytes from %d on, got the range %q", errRange, offset, response.Header.Get("Content-Range"))
		}
		return start, nil
	case http.StatusRequestedRangeNotSatisfiable:
		var size int64
		if _, err := fmt.Sscanf(response.Header.Get("Content-Range"), "bytes */%d", &size); err == nil && size == offset {
			err := response.Body.Close()
			response.Body, response.ContentLength = http.NoBody, 0 // all of it is there
			return offset, err
		}
		return 0, fmt.Errorf("%w: the server says %s", errRange, response.Status)
	case http.StatusNotFound, http.StatusGone:
		return 0, fmt.Errorf("%w: the server says %s", ErrNotFound, response.Status)
	case http.StatusUnauthorized, http.StatusForbidden:
		return 0, fmt.Errorf("%w: the server says %s", errRefused, response.Status)
	}
	if response.StatusCode >= 500 {
		return 0, fmt.Errorf("%w: the server says %s", ErrUnreachable, response.Status)
	}
	return 0, fmt.Errorf("the server says %s", response.Status)
}

// plainer puts the reason first that a person can act on.
func plainer(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		return cause
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return fmt.Errorf("the name %s cannot be resolved: %s", dns.Name, dns.Err)
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}
