package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"

	"herdbook/internal/bucket"
)

// openBucket opens an object of a bucket, s3://BUCKET/NAME?endpoint=…&region=…, at its
// start.
func (f *Fetcher) openBucket(ctx context.Context, u *url.URL) (*body, int64, error) {
	whole := *u
	whole.Path, whole.RawPath = "", ""
	place, err := bucket.At(whole.String(), f.Bucket)
	if err != nil {
		return nil, 0, fmt.Errorf("fetch %s: %w", shown(u.String()), err)
	}
	ctx, touch, stop := f.impatient(ctx)
	r, object, err := place.Open(ctx, strings.TrimPrefix(u.Path, "/"))
	if err == nil {
		return &body{ReadCloser: r, ctx: ctx, length: object.Size, touch: touch, stop: stop}, 0, nil
	}
	cause := context.Cause(ctx)
	stop()
	var unanswered *url.Error
	switch {
	case cause != nil:
		return nil, 0, fmt.Errorf("fetch %s: %w", shown(u.String()), cause)
	case errors.Is(err, fs.ErrNotExist):
		return nil, 0, fmt.Errorf("fetch %s: %w", shown(u.String()), ErrNotFound)
	case errors.As(err, &unanswered):
		return nil, 0, fmt.Errorf("fetch %s: %w: %w", shown(u.String()), ErrUnreachable, err)
	}
	return nil, 0, fmt.Errorf("fetch %s: %w", shown(u.String()), err)
}
