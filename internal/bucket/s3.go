package bucket

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
)

const (
	amazon = "https://s3.amazonaws.com"
	// s3Attempts are made of each request, with pauses that grow to a second.
	s3Attempts = 10
	// answer is how long a service may think before it answers. Joining the parts of
	// a large object takes minutes.
	answer = 10 * time.Minute
)

// s3 is a bucket behind the API of Amazon's S3. A version is an ETag, which every
// service makes of the content, or of that and chance. Conditions are the service's
// own, which Amazon has had since 2024: If-None-Match: * and If-Match.
type s3 struct {
	core    *minio.Core
	address S3Address
}

// S3 is a bucket of S3's kind. Services other than Amazon's are asked by path, as
// http://ENDPOINT/BUCKET/NAME. Nothing is asked of the service yet.
func S3(a S3Address, o Options) (Bucket, error) {
	b, err := newS3(a, o)
	if err != nil {
		return nil, fmt.Errorf("address of a repository in S3: %w", err)
	}
	return b, nil
}

func newS3(a S3Address, o Options) (*s3, error) {
	if err := s3utils.CheckValidBucketNameStrict(a.Bucket); err != nil {
		return nil, fmt.Errorf("%.80q can be no bucket: %w", a.Bucket, err)
	}
	if a.Prefix != "" {
		if err := CheckName(a.Prefix); err != nil {
			return nil, err
		}
	}
	if (o.AccessKey == "") != (o.SecretKey == "") {
		return nil, errors.New("an access key and a secret key belong together, and one of them is missing")
	}
	lookup := minio.BucketLookupPath
	if a.Endpoint == "" {
		a.Endpoint, lookup = amazon, minio.BucketLookupAuto
	} else if a.Region == "" {
		a.Region = "us-east-1" // what most others call the only one they have
	}
	u, err := parseAddress(a.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("endpoint: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, fmt.Errorf("endpoint %s: it is https://HOST or http://HOST:PORT, without a path", bare(u))
	}
	core, err := minio.NewCore(u.Host, &minio.Options{
		Creds:        credentials.NewStaticV4(o.AccessKey, string(o.SecretKey), string(o.SessionToken)),
		Secure:       u.Scheme == "https",
		Transport:    onlyS3{s3Transport()},
		Region:       a.Region,
		BucketLookup: lookup,
		MaxRetries:   s3Attempts,
	})
	if err != nil {
		return nil, fmt.Errorf("endpoint %s: %w", bare(u), err)
	}
	return &s3{core, a}, nil
}

func s3Transport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   30 * time.Second,
		ResponseHeaderTimeout: answer,
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   16,
		DisableCompression:    true, // content is given as it was put
	}
}

// notS3 is the code of what is no answer of S3.
const notS3 = "NotS3"

// onlyS3 makes errors of the answers of a web server that is no S3: its 404 would
// say that an object is not there, and its pages would be objects.
type onlyS3 struct{ *http.Transport }

func (t onlyS3) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.Transport.RoundTrip(request)
	if err != nil || isS3(request, response) {
		return response, err
	}
	if err := response.Body.Close(); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("<Error><Code>%s</Code><Message>what answers there is not S3: HTTP status %d</Message></Error>", notS3, response.StatusCode)
	response.StatusCode, response.ContentLength = http.StatusBadRequest, int64(len(text))
	response.Body = io.NopCloser(strings.NewReader(text))
	return response, nil
}

// isS3 tells an answer of S3, or one that may pass: S3 says its errors in XML, and
// has headers of its own.
func isS3(request *http.Request, response *http.Response) bool {
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")) // "" is none that is known
	for key := range response.Header {
		if strings.HasPrefix(key, "X-Amz-") || strings.HasPrefix(key, "X-Goog-") || strings.HasPrefix(key, "X-Guploader-") {
			return true
		}
	}
	switch status := response.StatusCode; {
	case status >= 500 || status == http.StatusRequestTimeout || status == http.StatusTooManyRequests:
		return true
	case status >= 400:
		return request.Method == http.MethodHead || strings.HasSuffix(kind, "/xml")
	}
	return kind != "text/html"
}

func (b *s3) key(name string) string {
	if b.address.Prefix == "" {
		return name
	}
	return b.address.Prefix + "/" + name
}

func (b *s3) String() string { return "s3://" + b.address.Bucket + "/" + b.address.Prefix }

func (b *s3) List(ctx context.Context, prefix string) (list []Object, err error) {
	if err := ctx.Err(); err != nil || !mayBegin(prefix) {
		return nil, err
	}
	err = untilAnswered(func() (err error) {
		list, err = b.list(ctx, prefix)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", b, b.explain(ctx, err))
	}
	// Not every service has Amazon's order.
	slices.SortFunc(list, func(a, b Object) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func (b *s3) list(ctx context.Context, prefix string) ([]Object, error) {
	var list []Object
	for o := range b.core.ListObjectsIter(ctx, b.address.Bucket, minio.ListObjectsOptions{Prefix: b.key(prefix), Recursive: true}) {
		if o.Err != nil {
			return nil, o.Err
		}
		name := strings.TrimPrefix(o.Key, b.key(""))
		if CheckName(name) == nil && strings.HasPrefix(name, prefix) {
			list = append(list, Object{Name: name, Size: o.Size, Version: o.ETag, Modified: o.LastModified})
		}
	}
	return list, ctx.Err()
}

func (b *s3) Remove(ctx context.Context, name string) error {
	err := errors.Join(CheckName(name), ctx.Err())
	if err == nil {
		err = untilAnswered(func() error {
			return b.core.RemoveObject(ctx, b.address.Bucket, b.key(name), minio.RemoveObjectOptions{})
		})
	}
	if code(err) == minio.NoSuchKey || code(err) == "ObjectParentIsFile" {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("remove %.80s from %s: %w", name, b, b.explain(ctx, err))
	}
	return nil
}

// code is S3's name of an error, "" if the service did not say it.
func code(err error) string {
	var response minio.ErrorResponse
	if errors.As(err, &response) {
		return response.Code
	}
	return ""
}

// brokenOff tells an answer that came in part. Requests without any are made again
// before this is asked, and come as a url.Error in the end.
func brokenOff(err error) bool {
	var syntax *xml.SyntaxError
	var address *url.Error
	return !errors.As(err, &address) && (errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.As(err, &syntax))
}

// untilAnswered asks again while answers break off.
func untilAnswered(ask func() error) error {
	for try := 1; ; try++ {
		if err := ask(); !brokenOff(err) || try == s3Attempts {
			return err
		}
	}
}

// advice is what can be done about an error of S3.
func (b *s3) advice(name string) string {
	switch name {
	case minio.NoSuchBucket:
		return fmt.Sprintf("%s has no bucket %s: make it there, or correct the address", b.address.Endpoint, b.address.Bucket)
	case "InvalidAccessKeyId", "XAdminUserNotFound", "SignatureDoesNotMatch", "InvalidToken", "InvalidSecurity":
		return "the access key or its secret key is wrong"
	case minio.AccessDenied:
		return "these credentials may not do that in bucket " + b.address.Bucket
	case "ExpiredToken", "ExpiredTokenException":
		return "the credentials were temporary, and are over: get new ones"
	case "RequestTimeTooSkewed", "RequestExpired":
		return "the clock of this machine and that of the service are too far apart: set this one right"
	case "AuthorizationHeaderMalformed", "InvalidRegion", "PermanentRedirect":
		return "the bucket is in another region: say which by ?region= in the address"
	case minio.NotImplemented:
		return "the service lacks what a repository needs: writing on condition"
	case "QuotaExceeded", "NoSpaceLeftOnDevice", "InsufficientStorage", "XMinioStorageFull":
		return "there is no room left; what was there before still is"
	case "ExistingObjectIsDirectory", "ObjectParentIsFile":
		return "this service keeps files: one cannot be where a directory of others is"
	}
	return ""
}

// explain adds to an error what can be done about it.
func (b *s3) explain(ctx context.Context, err error) error {
	var address *url.Error
	switch what := b.advice(code(err)); {
	case ctx.Err() != nil:
		return errors.Join(ctx.Err(), err)
	case code(err) == minio.NoSuchKey:
		return fs.ErrNotExist
	case what != "":
		return fmt.Errorf("%s: %w (%s)", what, err, code(err))
	case code(err) == notS3 || errors.As(err, &address):
		return fmt.Errorf("%w; is %s the endpoint?", err, b.address.Endpoint)
	case code(err) != "":
		return fmt.Errorf("%w (%s)", err, code(err))
	}
	return err
}
