package bucket

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"

	"github.com/minio/minio-go/v7"
)

func (b *s3) Open(ctx context.Context, name string) (io.ReadCloser, Object, error) {
	o := Object{Name: name}
	err := errors.Join(CheckName(name), ctx.Err())
	if err != nil {
		return nil, o, fmt.Errorf("open %.80s in %s: %w", name, b, err)
	}
	var body io.ReadCloser
	var info minio.ObjectInfo
	err = untilAnswered(func() (err error) {
		body, info, _, err = b.core.GetObject(ctx, b.address.Bucket, b.key(name), minio.GetObjectOptions{})
		return err
	})
	if err == nil && info.ETag == "" {
		err = errors.Join(errors.New("the service gives it no ETag"), body.Close())
	}
	if code(err) == "ObjectParentIsFile" {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, o, fmt.Errorf("open %.80s in %s: %w", name, b, b.explain(ctx, err))
	}
	o.Size, o.Version, o.Modified = info.Size, info.ETag, info.LastModified
	r := &s3Reader{b: b, ctx: ctx, o: o, body: body}
	if len(o.Version) == 2*md5.Size && o.Size <= partSize {
		r.sum = md5.New()
	}
	return r, o, nil
}

// s3Reader reads one version of an object to its end, over several connections if
// they break.
type s3Reader struct {
	b     *s3
	ctx   context.Context // of Open, which reading belongs to
	o     Object
	body  io.ReadCloser
	sum   hash.Hash // nil if the version is not the MD5 of the content
	at    int64
	tries int // since it last got on
}

func (r *s3Reader) Read(p []byte) (int, error) {
	n, err := r.read(p)
	if err == io.EOF {
		err = r.check()
	}
	if err != nil && err != io.EOF {
		err = fmt.Errorf("read %.80s in %s: %w", r.o.Name, r.b, err)
	}
	return n, err
}

func (r *s3Reader) read(p []byte) (int, error) {
	for len(p) > 0 {
		if r.at == r.o.Size {
			return 0, io.EOF
		}
		n, err := r.body.Read(p[:min(int64(len(p)), r.o.Size-r.at)])
		if n > 0 {
			r.at += int64(n)
			r.tries = 0
			if r.sum != nil {
				r.sum.Write(p[:n])
			}
			return n, nil // an error comes again
		}
		if err != nil {
			if err := r.again(err); err != nil {
				return 0, err
			}
		}
	}
	return 0, nil
}

// check makes sure at the end that content and version belong together, since who
// swaps goes by both: a service that looks a file up twice may give the version of a
// Put that came in between. Where versions are no sums, the content is compared with
// that of the version.
func (r *s3Reader) check() error {
	if r.sum == nil {
		return io.EOF
	}
	sum := hex.EncodeToString(r.sum.Sum(nil))
	if sum == r.o.Version {
		return io.EOF
	}
	second := md5.New()
	err := untilAnswered(func() error {
		second.Reset()
		var o minio.GetObjectOptions
		if err := o.SetMatchETag(r.o.Version); err != nil {
			return err
		}
		body, _, _, err := r.b.core.GetObject(r.ctx, r.b.address.Bucket, r.b.key(r.o.Name), o)
		if err != nil {
			return err
		}
		_, err = io.Copy(second, io.LimitReader(body, partSize))
		return errors.Join(err, body.Close())
	})
	switch {
	case replaced(err) || err == nil && hex.EncodeToString(second.Sum(nil)) != sum:
		return fmt.Errorf("%w, while it was read: read it again", ErrChanged)
	case err != nil:
		return r.b.explain(r.ctx, err)
	}
	r.sum = nil
	return io.EOF
}

// replaced tells that a version is not there any more.
func replaced(err error) bool {
	return code(err) == minio.PreconditionFailed || code(err) == minio.NoSuchKey
}

// again asks for the rest, of the same version only.
func (r *s3Reader) again(cause error) error {
	if r.tries++; r.tries > s3Attempts || r.ctx.Err() != nil {
		return errors.Join(cause, r.ctx.Err())
	}
	var o minio.GetObjectOptions
	if err := errors.Join(o.SetRange(r.at, r.o.Size-1), o.SetMatchETag(r.o.Version)); err != nil {
		return err
	}
	body, _, _, err := r.b.core.GetObject(r.ctx, r.b.address.Bucket, r.b.key(r.o.Name), o)
	if brokenOff(err) {
		return r.again(err)
	}
	if replaced(err) {
		return fmt.Errorf("%w, while it was read: read it again", ErrChanged)
	}
	if err != nil {
		return r.b.explain(r.ctx, err)
	}
	old := r.body
	r.body = body
	_ = old.Close() // it is broken
	return nil
}

func (r *s3Reader) Close() error { return r.body.Close() }
