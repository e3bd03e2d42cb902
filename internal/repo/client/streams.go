package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"herdbook/internal/repo"
	"herdbook/internal/repo/streams"
	"herdbook/internal/signed"
	"herdbook/internal/source"
)

// Bounds of the products files of one tree.
const (
	maxProducts = 64
	maxTree     = 4 * streams.MaxText // bytes of all of them, which are in memory at once
)

// fetchStreams fetches the index of a tree of Simple Streams, and the products files
// that it names. The index is verified before it is asked what they are.
func (c *Client) fetchStreams(ctx context.Context, s Source, keys signed.Keys) ([]document, error) {
	names := []string{"streams/v1/index.json", "streams/v1/index.sjson"}
	if keys != nil {
		names = names[1:]
	}
	var list []document
	for _, name := range names {
		address := below(s.URL, name)
		text, err := c.fetcher(s).Get(ctx, address, streams.MaxText)
		if err == nil {
			list = []document{{address, text}}
			break
		}
		if !errors.Is(err, source.ErrNotFound) || name == names[len(names)-1] {
			return nil, err
		}
	}
	paths, err := streamPaths(list[0], keys, c.Now)
	if err != nil {
		return nil, err
	}
	left := int64(maxTree)
	for _, path := range paths {
		address := below(s.URL, path)
		text, err := c.fetcher(s).Get(ctx, address, min(left, streams.MaxText))
		if err != nil {
			return nil, err
		}
		left -= int64(len(text))
		list = append(list, document{address, text})
	}
	return list, nil
}

func streamPaths(index document, keys signed.Keys, now time.Time) ([]string, error) {
	text, err := verified(index.Text, keys, now)
	var paths []string
	if err == nil {
		paths, err = streams.ParseIndex(text)
	}
	if err == nil && len(paths) > maxProducts {
		err = fmt.Errorf("it names %d products files, more than the %d it may have", len(paths), maxProducts)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", index.URL, err)
	}
	return paths, nil
}

// parseStreams verifies and reads an index and its products files.
func parseStreams(fetched []document, keys signed.Keys, now time.Time) ([]byte, repo.Index, error) {
	var whole bytes.Buffer
	var x repo.Index
	for _, d := range fetched {
		text, err := verified(d.Text, keys, now)
		var entries []repo.Entry
		if err == nil && d.URL != fetched[0].URL {
			entries, err = streams.ParseProducts(text)
		}
		if err != nil {
			return nil, repo.Index{}, fmt.Errorf("%s: %w", d.URL, err)
		}
		whole.Write(text)
		x.Entries = append(x.Entries, entries...)
	}
	return whole.Bytes(), x, nil
}
