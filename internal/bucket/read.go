package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// ErrTooLarge is wrapped by the error of an object that has more bytes than it may.
var ErrTooLarge = errors.New("too large")

// Read reads an object of at most limit bytes whole.
func Read(ctx context.Context, b Bucket, name string, limit int64) (text []byte, o Object, err error) {
	body, o, err := b.Open(ctx, name)
	if err != nil {
		return nil, o, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	text, err = io.ReadAll(io.LimitReader(body, limit+1))
	if err == nil && int64(len(text)) > limit {
		return nil, o, fmt.Errorf("read %.80s: %w: it has more than %d bytes", name, ErrTooLarge, limit)
	}
	return text, o, err
}
