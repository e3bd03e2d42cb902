package bucket

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"
)

// Larger content than one part goes in several, of which four at a time: S3 takes
// ten thousand of them.
const (
	partSize    = 16 << 20
	maxParts    = 10000
	partsAtOnce = 4
)

// markHeader has each Put mark its object, so that one whose answer was lost can
// tell whether it was made.
const markHeader = "Herdbook-Put"

func (b *s3) Put(ctx context.Context, name string, content Content, condition Condition) (Object, error) {
	o, err := b.put(ctx, name, content, condition)
	if err != nil {
		return Object{}, fmt.Errorf("put %.80s into %s: %w", name, b, b.explain(ctx, err))
	}
	return o, nil
}

func (b *s3) put(ctx context.Context, name string, content Content, condition Condition) (Object, error) {
	if err := errors.Join(CheckName(name), condition.check(), ctx.Err()); err != nil {
		return Object{}, err
	}
	if strings.ContainsFunc(condition.Version, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' || r == '*' }) {
		return Object{}, ErrChanged // nothing that S3 made
	}
	p := s3Put{b, b.key(name), content, condition, rand.Text()}
	if content.Size() > partSize && condition != (Condition{}) {
		if err := p.spare(ctx); err != nil {
			return Object{}, err
		}
	}
	for try := 1; ; try++ {
		// A read that fails ends the request, which would be made again otherwise.
		sending, fail := context.WithCancelCause(ctx)
		o, err := p.send(sending, fail)
		cause := context.Cause(sending)
		fail(nil)
		if err != nil && cause != nil && ctx.Err() == nil {
			return Object{}, fmt.Errorf("read what is put: %w", cause)
		}
		if err != nil && ctx.Err() == nil {
			o, err = p.settle(ctx, err)
		}
		// Nothing was written then: another Put was in the way, bytes were spoilt, or
		// what was answered before the last request.
		passing := brokenOff(err) || code(err) == "ConditionalRequestConflict" || code(err) == "OperationAborted" || code(err) == minio.XAmzContentSHA256Mismatch
		if passing && try < s3Attempts {
			continue
		}
		o.Name = name
		return o, err
	}
}

// s3Put is one Put.
type s3Put struct {
	b         *s3
	key       string
	content   Content
	condition Condition
	mark      string
}

// spare is ErrChanged if a condition does not hold already: then nothing large need
// be sent.
func (p s3Put) spare(ctx context.Context) error {
	o, err := p.b.core.StatObject(ctx, p.b.address.Bucket, p.key, minio.StatObjectOptions{})
	missing := code(err) == minio.NoSuchKey
	if err != nil && !missing {
		return nil // sending will tell
	}
	if p.condition.Absent && !missing || p.condition.Version != "" && (missing || o.ETag != p.condition.Version) {
		return ErrChanged
	}
	return nil
}

// settle tells what an error of S3 means. A request whose answer was lost has been
// made again, and may have met its own object.
func (p s3Put) settle(ctx context.Context, cause error) (Object, error) {
	absent := code(cause) == minio.NoSuchKey && p.condition.Version != ""
	gone := code(cause) == "NoSuchUpload"
	if code(cause) != minio.PreconditionFailed && !absent && !gone && !brokenOff(cause) {
		return Object{}, cause
	}
	o, err := p.b.core.StatObject(ctx, p.b.address.Bucket, p.key, minio.StatObjectOptions{}) // which has no body to break off
	switch {
	case err != nil && code(err) != minio.NoSuchKey:
		return Object{}, err
	case err == nil && o.UserMetadata[markHeader] == p.mark:
		return Object{Size: o.Size, Version: o.ETag, Modified: o.LastModified}, nil
	case brokenOff(cause):
		return Object{}, cause
	case gone && p.condition == (Condition{}):
		return Object{}, errors.New("its upload is gone: somebody removed it, or replaced what it became")
	}
	return Object{}, ErrChanged
}

func (p s3Put) send(ctx context.Context, fail context.CancelCauseFunc) (Object, error) {
	size := p.content.Size()
	opts := minio.PutObjectOptions{UserMetadata: map[string]string{markHeader: p.mark}, DisableContentSha256: true}
	if size > partSize {
		return p.sendParts(ctx, fail, opts)
	}
	p.conditional(&opts)
	body, sum, err := p.part(0, size, fail)
	if err != nil {
		return Object{}, err
	}
	info, err := p.b.core.PutObject(ctx, p.b.address.Bucket, p.key, body, size, "", sum, opts)
	return p.made(ctx, info, err)
}

func (p s3Put) conditional(opts *minio.PutObjectOptions) {
	switch {
	case p.condition.Absent:
		opts.SetMatchETagExcept("*")
	case p.condition.Version != "":
		opts.SetMatchETag(p.condition.Version)
	}
}

func (p s3Put) made(ctx context.Context, info minio.UploadInfo, err error) (Object, error) {
	if err == nil && info.ETag == "" {
		err = errors.New("the service gives it no ETag")
	}
	if err != nil {
		return Object{}, err
	}
	return Object{Size: p.content.Size(), Version: info.ETag, Modified: info.LastModified}, ctx.Err()
}

// sendParts sends content in parts and joins them, on condition.
func (p s3Put) sendParts(ctx context.Context, fail context.CancelCauseFunc, opts minio.PutObjectOptions) (o Object, err error) {
	bucket, size := p.b.address.Bucket, p.content.Size()
	length := max(partSize, (size+maxParts-1)/maxParts)
	upload, err := p.b.core.NewMultipartUpload(ctx, bucket, p.key, opts)
	if err != nil {
		return o, err
	}
	defer func() {
		if err == nil {
			return
		}
		// Parts cost money until they are removed; the error is that of sending.
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		_ = p.b.core.AbortMultipartUpload(late, bucket, p.key, upload)
	}()
	parts := make([]minio.CompletePart, (size+length-1)/length)
	group, sending := errgroup.WithContext(ctx)
	group.SetLimit(partsAtOnce)
	for i := range parts {
		group.Go(func() error {
			if err := sending.Err(); err != nil {
				return err
			}
			at := int64(i) * length
			n := min(length, size-at)
			body, sum, err := p.part(at, n, fail)
			if err != nil {
				return err
			}
			part, err := p.b.core.PutObjectPart(sending, bucket, p.key, upload, i+1, body, n,
				minio.PutObjectPartOptions{Sha256Hex: sum, DisableContentSha256: true})
			parts[i] = minio.CompletePart{PartNumber: i + 1, ETag: part.ETag}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return o, err
	}
	var joining minio.PutObjectOptions
	p.conditional(&joining)
	info, err := p.b.core.CompleteMultipartUpload(ctx, bucket, p.key, upload, parts, joining)
	return p.made(ctx, info, err)
}

// part is some of the content with its SHA-256, by which the service makes sure of
// what it was sent.
func (p s3Put) part(at, size int64, fail context.CancelCauseFunc) (io.ReadSeeker, string, error) {
	body := &s3Body{r: io.NewSectionReader(p.content, at, size), size: size, fail: fail}
	hash := sha256.New()
	if _, err := io.Copy(hash, body); err != nil {
		return nil, "", err
	}
	_, err := body.Seek(0, io.SeekStart)
	return body, hex.EncodeToString(hash.Sum(nil)), err
}

// s3Body is what a request sends. A request that broke off may still be reading when
// its next attempt begins: then the sum is wrong, and the service says so.
type s3Body struct {
	mu   sync.Mutex
	r    *io.SectionReader
	at   int64
	size int64
	fail context.CancelCauseFunc
}

func (b *s3Body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.r.Read(p)
	b.at += int64(n)
	if err == io.EOF && b.at < b.size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		b.fail(err)
	}
	return n, err
}

// Seek implements io.Seeker, which has a request be made again.
func (b *s3Body) Seek(offset int64, whence int) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, err := b.r.Seek(offset, whence)
	b.at = at
	return at, err
}
