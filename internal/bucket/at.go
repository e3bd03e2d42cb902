package bucket

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"
)

// Options are what a place asks of who comes there, beside its address.
type Options struct {
	AccessKey    string // of S3; "" is nobody, who may read what is public
	SecretKey    Secret
	SessionToken Secret // of temporary credentials; "" is none
	Token        Secret // of a herdbook that serves; "" may only read
	AllowPlain   bool   // sends the token over plain HTTP to other machines, too
}

// Secret is text that prints as stars.
type Secret string

// MarshalText hides the text from encoders.
func (s Secret) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%s", s), nil }

// Format hides the text from every verb.
func (s Secret) Format(f fmt.State, _ rune) {
	if s != "" {
		_, _ = io.WriteString(f, "***") // a State takes all
	}
}

const kinds = "it is a directory, file:///DIRECTORY, s3://BUCKET/PREFIX or https://HOST/PATH"

// At is the bucket at an address: a path or a file:// URL of a directory,
// s3://BUCKET/PREFIX, or the http:// or https:// URL of a herdbook that serves.
// Nothing is asked of the place yet.
func At(address string, o Options) (Bucket, error) {
	scheme, _, isURL := strings.Cut(address, "://")
	if address == "" {
		return nil, errors.New("address of a repository: it is empty; " + kinds)
	}
	if !isURL || strings.ContainsAny(scheme, "/.") {
		return Dir(address), nil
	}
	u, err := parseAddress(address)
	if err != nil {
		return nil, fmt.Errorf("address of a repository: %w", err)
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" && u.Host != "localhost" || u.RawQuery != "" || !filepath.IsAbs(u.Path) || strings.ContainsRune(u.Path, 0) {
			return nil, fmt.Errorf("address of a repository: %s: a directory is file:///DIRECTORY, with a path from the root", bare(u))
		}
		return Dir(filepath.FromSlash(u.Path)), nil
	case "s3":
		s, err := parseS3(u)
		if err != nil {
			return nil, fmt.Errorf("address of a repository: %s: %w", bare(u), err)
		}
		return S3(s, o)
	case "http", "https":
		return HTTP(address, HTTPOptions{Token: o.Token, AllowPlain: o.AllowPlain})
	}
	return nil, fmt.Errorf("address of a repository: nothing is known of %.20q; %s", u.Scheme+"://", kinds)
}

// parseAddress parses a URL that says no secret. Errors do not repeat one.
func parseAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		var why *url.Error
		if errors.As(err, &why) {
			err = why.Err // without the address, which may have a password in it
		}
		if strings.Contains(address, "@") {
			err = errors.New("it is no URL")
		}
		return nil, err
	}
	if u.User != nil {
		return nil, fmt.Errorf("%s://…@%s: credentials do not belong into it", u.Scheme, u.Host)
	}
	if u.Fragment != "" {
		return nil, fmt.Errorf("%s: what is behind # means nothing there", bare(u))
	}
	return u, nil
}

// bare is an address without what may hide a secret.
func bare(u *url.URL) string { return u.Scheme + "://" + u.Host + u.Path }

// S3Address is where a bucket of S3's kind is.
type S3Address struct {
	Bucket   string
	Prefix   string // of the names of all objects, without the slash behind it; "" is none
	Endpoint string // URL of the service; "" is Amazon's
	Region   string // "" is what the service says
}

// parseS3 parses s3://BUCKET/PREFIX?endpoint=URL&region=REGION.
func parseS3(u *url.URL) (S3Address, error) {
	a := S3Address{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/")}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return a, errors.New("what is behind ? cannot be read")
	}
	for key, values := range query {
		switch {
		case len(values) > 1:
			return a, fmt.Errorf("it says %.20q more than once", key)
		case key == "endpoint":
			a.Endpoint = values[0]
		case key == "region":
			a.Region = values[0]
		default:
			return a, fmt.Errorf("%.20q means nothing there; endpoint and region do", key)
		}
	}
	return a, nil
}
