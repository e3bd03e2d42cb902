package bucket

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestAt(t *testing.T) {
	o := Options{AccessKey: "access", SecretKey: "hunter2"}
	for address, want := range map[string]string{
		"repo": "repo", "/srv/repo": "/srv/repo", "./a:b": "./a:b", "dir/with://in": "dir/with://in",
		"file:///srv/re%20po": "/srv/re po", "file://localhost/srv": "/srv", "FILE:///srv": "/srv",
	} {
		b, err := At(address, o)
		if err != nil || b != Dir(want) {
			t.Errorf("%s: %+v %v", address, b, err)
		}
	}
	for _, address := range []string{"http://127.0.0.1:8080/repo", "https://images.example.org", "HTTPS://images.example.org/a/"} {
		b, err := At(address, Options{Token: "hunter2"})
		if _, ok := b.(*web); !ok || err != nil {
			t.Errorf("%s: %T %v", address, b, err)
		}
	}
	for address, want := range map[string]S3Address{
		"s3://herd":                                {Bucket: "herd", Endpoint: amazon},
		"s3://herd/":                               {Bucket: "herd", Endpoint: amazon},
		"s3://herd/images/new/":                    {Bucket: "herd", Prefix: "images/new", Endpoint: amazon},
		"s3://my.herd/a%20b?region=eu-central-1":   {Bucket: "my.herd", Prefix: "a b", Endpoint: amazon, Region: "eu-central-1"},
		"s3://herd?endpoint=http://127.0.0.1:7070": {Bucket: "herd", Endpoint: "http://127.0.0.1:7070", Region: "us-east-1"},
		"s3://herd/x?endpoint=https%3A%2F%2Fs3.example.org&region=garage": {Bucket: "herd", Prefix: "x", Endpoint: "https://s3.example.org", Region: "garage"},
	} {
		b, err := At(address, o)
		if err != nil {
			t.Errorf("%s: %v", address, err)
		} else if got := b.(*s3).address; got != want {
			t.Errorf("%s: %+v", address, got)
		}
	}
}

func TestBadAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"":                                      "it is empty",
		"http://images.example.org/x?y=z":       "is not like https://HOST/PATH",
		"ftp://herd/x":                          "nothing is known of \"ftp://\"",
		"file://otherhost/srv":                  "a directory is file:///DIRECTORY",
		"file://":                               "a directory is file:///DIRECTORY",
		"file:///srv%00":                        "a directory is file:///DIRECTORY",
		"file:///srv?x=y":                       "a directory is file:///DIRECTORY",
		"s3://":                                 "can be no bucket",
		"s3://UPPER/x":                          "can be no bucket",
		"s3://herd:80/x":                        "can be no bucket",
		"s3://herd/../x":                        "does not stay below",
		"s3://herd/.x":                          "does not stay below",
		"s3://herd/x%0a":                        "has characters",
		"s3://herd/x#y":                         "what is behind #",
		"s3://herd/x?rgion=here":                "\"rgion\" means nothing there; endpoint and region do",
		"s3://herd/x?region=a&region=b":         "it says \"region\" more than once",
		"s3://herd/x?%zz":                       "what is behind ? cannot be read",
		"s3://herd/x?secret=hunter2":            "means nothing there",
		"s3://key:hunter2@herd/x":               "s3://…@herd: credentials do not belong into it",
		"s3://key:hunter2@herd/%zz":             "it is no URL",
		"s3://herd?endpoint=127.0.0.1:7070":     "endpoint",
		"s3://herd?endpoint=s3.example.org":     "it is https://HOST or http://HOST:PORT",
		"s3://herd?endpoint=http://h/path":      "without a path",
		"s3://herd?endpoint=http://h?x=hunter2": "without a path",
		"s3://herd?endpoint=http://a:hunter2@h": "credentials do not belong into it",
		"s3://herd?endpoint=ftp://h":            "it is https://HOST or http://HOST:PORT",
	} {
		_, err := At(address, Options{AccessKey: "access", SecretKey: "hunter2"})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, err := At("s3://herd", Options{AccessKey: "access"}); err == nil || !strings.Contains(err.Error(), "one of them is missing") {
		t.Errorf("half of the credentials: %v", err)
	}
}

func TestSecretsPrintAsStars(t *testing.T) {
	o := Options{AccessKey: "access", SecretKey: "hunter2", SessionToken: "hunter2", Token: "hunter2"}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if text := fmt.Sprintf(format, o); strings.Contains(text, "hunter2") || strings.Contains(text, "68756e74657232") || !strings.Contains(text, "***") {
			t.Errorf("%s: %s", format, text)
		}
	}
	if text, err := json.Marshal(o); err != nil || strings.Contains(string(text), "hunter2") {
		t.Errorf("%s %v", text, err)
	}
}

// FuzzAt has no address crash it, nor an error repeat a password.
func FuzzAt(f *testing.F) {
	for _, rest := range []string{"herd/x", "herd?region=x&endpoint=http://h", "herd/%zz", "[::1", "herd/x#y", ""} {
		f.Add("s3", rest)
		f.Add("file", rest)
		f.Add("https", rest)
	}
	f.Fuzz(func(t *testing.T, scheme, rest string) {
		b, err := At(scheme+"://"+rest, Options{})
		if (b == nil) == (err == nil) {
			t.Errorf("%v and %v", b, err)
		}
		if strings.Contains(scheme, "hunter2") || strings.Contains(rest, "hunter2") || strings.ContainsAny(scheme, "/.") {
			return
		}
		if _, err := At(scheme+"://key:hunter2@"+rest, Options{}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s %s: %v", scheme, rest, err)
		}
	})
}
