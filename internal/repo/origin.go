package repo

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Origin is a repository that a file below repos.d names (virt-builder(1), "SOURCES
// OF TEMPLATES").
type Origin struct {
	Name    string // of its section
	URI     string // of its index; of Simple Streams, of the tree's top
	KeyFile string // path of the public keys that sign it; "" if it names none
	Proxy   string // "" for that of the environment, "off" for none, or a URL
	Streams bool   // it is a tree of Simple Streams
}

// MaxOrigins is the size that a file of origins may have, in bytes.
const MaxOrigins = 1 << 20

// ParseOrigins reads a file of origins, which has the grammar of an index. The
// error tells all that is wrong; origins that are right are there all the same,
// unless the grammar itself is broken. Keys that are unknown are ignored.
func ParseOrigins(text []byte) ([]Origin, error) {
	if len(text) > MaxOrigins {
		return nil, fmt.Errorf("it has %d bytes, more than the %d it may have", len(text), MaxOrigins)
	}
	sections, err := scan(string(text))
	if err != nil {
		return nil, err
	}
	var list []Origin
	var errs []error
	seen := map[string]bool{}
	for _, s := range sections {
		o, err := s.origin()
		if err == nil && seen[o.Name] {
			err = errors.New("it stands there twice")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("[%s]: %w", s.id, err))
			continue
		}
		seen[o.Name] = true
		list = append(list, o)
	}
	return list, errors.Join(errs...)
}

// origin makes one of a section.
func (s section) origin() (Origin, error) {
	o := Origin{Name: s.id}
	format := "native"
	for _, f := range s.fields {
		var err error
		switch f.Key {
		case "uri":
			o.URI = f.Value
		case "gpgkey":
			o.KeyFile, err = keyFile(f.Value)
		case "proxy":
			o.Proxy, err = proxy(f.Value)
		case "format":
			format = f.Value
		}
		if err != nil {
			return Origin{}, fmt.Errorf("%s: %w", f.Key, err)
		}
	}
	if format != "native" && format != "simplestreams" {
		return Origin{}, fmt.Errorf("format: %.40q is not known: want native or simplestreams", format)
	}
	o.Streams = format == "simplestreams"
	switch u, err := url.Parse(o.URI); {
	case o.URI == "":
		return Origin{}, errors.New("it has no uri")
	case err != nil || u.Scheme == "":
		return Origin{}, fmt.Errorf("uri: %.80q is no URL", o.URI)
	}
	return o, nil
}

// keyFile is the path that a file: URL names. A key that is fetched beside what it
// vouches for would prove nothing.
func keyFile(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", fmt.Errorf("%.80q is no URL", text)
	case u.Scheme == "http" || u.Scheme == "https" || u.Scheme == "ftp":
		return "", fmt.Errorf("%.80q: a key that is fetched like what it vouches for proves nothing; keep it on this machine and write file:///PATH", text)
	case u.Scheme != "file" || u.Host != "" || !strings.HasPrefix(u.Path, "/"):
		return "", fmt.Errorf("%.80q: want file:///PATH", text)
	}
	return u.Path, nil
}

// proxy reads virt-builder's words for proxies.
func proxy(text string) (string, error) {
	switch strings.ToLower(text) {
	case "no", "off":
		return "off", nil
	case "system":
		return "", nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || !strings.Contains(" http https socks5 socks5h ", " "+cmp.Or(u.Scheme, "-")+" ") {
		return "", errors.New("want off, system, or a URL such as http://proxy.example.org:3128") // without what was given, which may have a password
	}
	return text, nil
}
