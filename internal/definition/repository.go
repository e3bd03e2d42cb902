package definition

import (
	"encoding/hex"
	"fmt"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"herdbook/internal/op"
)

// Repository is where images are published, or where they come from. Exactly one of
// Path and URL is set. The fields with tags are read as they stand.
type Repository struct {
	Name         string
	Path         string        // directory, absolute; a file: URL is one, too
	URL          string        // s3, http or https, without a slash at its end
	SigningKey   op.Secret     `hcl:"signing_key,optional"` // armoured OpenPGP secret key; of a file: its content; or gpg:FINGERPRINT
	PublicKey    string        // OpenPGP public keys, the content of a file: whose signature is good
	Fingerprints []string      `hcl:"fingerprints,optional"` // upper-case hexadecimal: of which keys the signature may be
	Unsigned     bool          `hcl:"unsigned,optional"`     // goes without a signature, on purpose
	Format       string        `hcl:"format,optional"`       // what is read: native or simplestreams
	Formats      []string      `hcl:"formats,optional"`      // what a publish makes: of formats
	ValidFor     time.Duration // how long a signed index counts as fresh; 0 for ever
	PublicURL    string        // http or https: where it is served; "" if nobody says
	AccessKey    op.Secret     `hcl:"access_key,optional"` // of s3
	SecretKey    op.Secret     `hcl:"secret_key,optional"`
	SessionToken op.Secret     `hcl:"session_token,optional"`
	Token        op.Secret     `hcl:"token,optional"`        // of http and https, for uploads and for what is not open to all
	TrustedHTTP  bool          `hcl:"trusted_http,optional"` // the token may be sent to other machines over http, too
}

// formats are what a publish can make of an image.
var formats = []string{"qcow2", "xz", "vagrant", "netboot"}

// Address is the URL of the repository.
func (r Repository) Address() string {
	if r.URL != "" {
		return r.URL
	}
	return (&url.URL{Scheme: "file", Path: r.Path}).String()
}

// ReadOnly says why nothing can be published into the repository, and what to do;
// it is "" if something can.
func (r Repository) ReadOnly() string {
	switch {
	case r.Format == "simplestreams":
		return "what is read as simplestreams is not written. Publish into another repository"
	case r.SigningKey.Value == "" && !r.Unsigned:
		return `it has no key to sign with. Give signing_key, the path of an OpenPGP secret key or env("…"), or say unsigned = true`
	case isWeb(r.URL) && r.Token.Value == "":
		return `a web server takes nothing without a token. Give token, the path of a file or env("…"), of a herdbook repo serve that takes uploads`
	}
	return ""
}

func isWeb(address string) bool {
	return strings.HasPrefix(address, "http://") || strings.HasPrefix(address, "https://")
}

// thisMachine is how a URL names the machine itself.
var thisMachine = regexp.MustCompile(`^(?:localhost|::1|127(?:\.[0-9]{1,3}){3})$`)

// isPlain tells whether what is sent there crosses a network in clear.
func isPlain(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Scheme == "http" && !thisMachine.MatchString(u.Hostname())
}

func (l *loader) repositories(blocks hcl.Blocks, ctx *hcl.EvalContext) []Repository {
	var list []Repository
	for _, b := range blocks {
		before := l.met
		r := l.repository(b, ctx)
		if slices.ContainsFunc(list, func(o Repository) bool { return o.Name == r.Name }) {
			l.fault(b.DefRange, "Repository declared twice", fmt.Sprintf("There is a repository %q already.", r.Name))
		}
		if l.met > before {
			l.faulty[r.Name] = true
		}
		list = append(list, r)
	}
	return list
}

func (l *loader) repository(b *hcl.Block, ctx *hcl.EvalContext) Repository {
	var raw struct {
		Path      string `hcl:"path,optional"`
		URL       string `hcl:"url,optional"`
		PublicKey string `hcl:"public_key,optional"`
		ValidFor  string `hcl:"valid_for,optional"`
		PublicURL string `hcl:"public_url,optional"`
	}
	r := Repository{Name: b.Labels[0], Format: "native", Formats: []string{"qcow2"}, ValidFor: ValidFor}
	content := l.content(b.Body, nil, &raw, &r)
	given := l.decode(content, ctx, &raw)
	maps.Copy(given, l.decode(content, ctx, &r))
	before := l.met
	if (content.Attributes["path"] == nil) == (content.Attributes["url"] == nil) {
		l.fault(b.DefRange, "Repository without a place", "Give either path, a directory, or url, such as s3://BUCKET/PREFIX or https://images.example.org.")
	}
	if given["path"] != nil {
		r.Path = l.path(raw.Path)
	}
	if attr := given["url"]; attr != nil {
		l.place(&r, attr, raw.URL)
	}
	if attr := given["public_key"]; attr != nil {
		r.PublicKey = l.publicKey(attr, raw.PublicKey)
	}
	for field, s := range map[string]*op.Secret{
		"signing_key": &r.SigningKey, "access_key": &r.AccessKey, "secret_key": &r.SecretKey, "session_token": &r.SessionToken, "token": &r.Token,
	} {
		*s = l.secretFile(given[field], field, *s)
	}
	if attr := given["valid_for"]; attr != nil {
		r.ValidFor = l.validFor(attr, raw.ValidFor)
	}
	if attr := given["public_url"]; attr != nil {
		r.PublicURL = l.publicURL(attr, raw.PublicURL)
	}
	l.formats(given, r)
	l.fingerprints(given["fingerprints"], &r)
	l.trust(r, content, b.DefRange)
	l.credentials(r, content)
	if reason := r.ReadOnly(); reason != "" && l.met == before {
		for _, field := range []string{"formats", "valid_for", "public_url"} {
			if attr := content.Attributes[field]; attr != nil {
				l.fault(attr.Range, "Nothing is published", fmt.Sprintf("%s says how it is published, but %s.", field, reason))
			}
		}
	}
	return r
}

// bucketName is the name of a bucket of S3.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// place reads where a repository is.
func (l *loader) place(r *Repository, attr *hcl.Attribute, text string) {
	u, err := url.Parse(text)
	problem := ""
	switch {
	case err != nil || strings.ContainsAny(text, " \t\n\r\x00"):
		problem = fmt.Sprintf("%q is not a URL.", text)
	case u.User != nil:
		problem = "A password in an address would stand in the lock file and in logs; there are access_key, secret_key and token."
	case !slices.Contains([]string{"s3", "http", "https", "file"}, u.Scheme):
		problem = fmt.Sprintf("%q is not the address of a repository: s3, http, https and file are known; a directory is given by path.", text)
	case u.Fragment != "" || u.RawQuery != "" && u.Scheme != "s3" || slices.Contains(strings.Split(u.Path, "/"), ".."):
		problem = fmt.Sprintf("%q is not the address of a repository, below which its files lie.", text)
	case u.Scheme == "file" && (u.Host != "" && u.Host != "localhost" || u.Path == ""):
		problem = fmt.Sprintf(`%q is not on this machine; write it as "file:///srv/images".`, text)
	case u.Scheme == "file":
		r.Path = path.Clean(u.Path)
		return
	case u.Host == "":
		problem = fmt.Sprintf("%q is not a URL.", text)
	case u.Scheme == "s3":
		problem = bucketProblem(u)
	}
	if problem != "" {
		l.fault(attr.Expr.Range(), "Bad location", problem)
		return
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	r.URL = u.String()
}

// bucketProblem tells what is wrong with the address of a bucket; "" if nothing is.
func bucketProblem(u *url.URL) string {
	if !bucketName.MatchString(u.Host) {
		return fmt.Sprintf("%q cannot be the name of a bucket.", u.Host)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fmt.Sprintf("%q is not a URL.", u)
	}
	for _, key := range slices.Sorted(maps.Keys(query)) {
		known := []string{"endpoint", "region"}
		switch {
		case !slices.Contains(known, key):
			return fmt.Sprintf("The address of a bucket has no parameter %q.%s", key, suggest(key, known))
		case len(query[key]) > 1 || query[key][0] == "":
			return fmt.Sprintf("The address of a bucket has one %s.", key)
		}
	}
	if endpoint := query.Get("endpoint"); endpoint != "" {
		e, err := url.Parse(endpoint)
		if err != nil || !isWeb(endpoint) || e.Host == "" || e.User != nil || strings.Trim(e.Path, "/") != "" || e.RawQuery != "" {
			return fmt.Sprintf(`endpoint: %q is not a server of S3; write it as "https://s3.example.org".`, endpoint)
		}
	}
	return ""
}

// secretFile gives a secret that is the path of a file the content of it.
func (l *loader) secretFile(attr *hcl.Attribute, field string, s op.Secret) op.Secret {
	summary, unread := "Bad value", fmt.Sprintf("%s cannot be read", field)
	if field == "signing_key" {
		summary, unread = "Repository without a key", "Signing key cannot be read"
	}
	switch {
	case attr == nil: // which was reported, or was meant
		return op.Secret{}
	case s.Value == "":
		l.fault(attr.Expr.Range(), summary, field+" is empty.")
	case field == "signing_key" && strings.HasPrefix(s.Value, "gpg:"): // gpg keeps it
	case s.Name == "":
		text, err := l.readFile(s.Value)
		if err != nil {
			l.fault(attr.Expr.Range(), unread, err.Error()+".")
		}
		s = op.Secret{Value: text, Name: "file " + s.Value}
		if field != "signing_key" {
			s.Value = strings.TrimSpace(text)
		}
		if s.Value == "" && err == nil {
			l.fault(attr.Expr.Range(), summary, fmt.Sprintf("%s: the file is empty.", field))
		}
	}
	return s
}

func (l *loader) publicKey(attr *hcl.Attribute, name string) string {
	text, err := l.readFile(name)
	switch {
	case err != nil:
		l.fault(attr.Expr.Range(), "Public key cannot be read", err.Error()+".")
	case strings.Contains(text, "PGP PRIVATE KEY BLOCK"):
		l.fault(attr.Expr.Range(), "Bad public key", fmt.Sprintf("%s is a secret key, which stays with those who sign; gpg --export --armor writes the public one.", name))
	case strings.TrimSpace(text) == "":
		l.fault(attr.Expr.Range(), "Bad public key", fmt.Sprintf("%s is empty.", name))
	}
	return text
}

const day = 24 * time.Hour

// ValidFor is how long an index counts as fresh if nobody says.
const ValidFor = 90 * day

// maxValid bounds valid_for.
const maxValid = 100 * 365 * day

// validFor reads how long an index counts as fresh.
func (l *loader) validFor(attr *hcl.Attribute, text string) time.Duration {
	if text == "never" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * day
	}
	if err != nil || d < time.Hour || d > maxValid {
		l.fault(attr.Expr.Range(), "Bad time", fmt.Sprintf(`valid_for: %q is not how long an index is fresh; write it as "90d" or "12h", at least 1h, or "never" for one that does not expire.`, text))
	}
	return d
}

func (l *loader) publicURL(attr *hcl.Attribute, text string) string {
	u, err := url.Parse(text)
	if err != nil || !isWeb(text) || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(text, " \t\n\r\x00") {
		l.fault(attr.Expr.Range(), "Bad location", fmt.Sprintf(`public_url: %q is not where a web server has the repository; write it as "https://images.example.org".`, text))
	}
	return strings.TrimRight(text, "/")
}

// formats reports what cannot be made or read.
func (l *loader) formats(given hcl.Attributes, r Repository) {
	l.oneOf(given, "format", r.Format, []string{"native", "simplestreams"})
	seen, disk := map[string]bool{}, false
	for _, f := range r.Formats {
		l.oneOf(given, "formats", f, formats)
		if seen[f] {
			l.fault(given["formats"].Expr.Range(), "Format twice", fmt.Sprintf("formats: %q stands twice.", f))
		}
		seen[f], disk = true, disk || f == "qcow2" || f == "xz"
	}
	if attr := given["formats"]; attr != nil && !disk {
		l.fault(attr.Expr.Range(), "No disk image", "formats: at least one of qcow2 and xz must be made, which virt-builder's clients read.")
	}
}

// fingerprints reads and writes them as gpg does, but for the blanks.
func (l *loader) fingerprints(attr *hcl.Attribute, r *Repository) {
	for n, text := range r.Fingerprints {
		digits := strings.ToUpper(strings.ReplaceAll(text, " ", ""))
		if _, err := hex.DecodeString(digits); err != nil || len(digits) != 40 && len(digits) != 64 {
			l.fault(attr.Expr.Range(), "Bad fingerprint", fmt.Sprintf("fingerprints: %q is not one of a key: want 40 hexadecimal digits, as gpg --fingerprint writes them; short ones can be forged.", text))
		}
		r.Fingerprints[n] = digits
	}
	if attr != nil && len(r.Fingerprints) == 0 {
		l.fault(attr.Expr.Range(), "Bad fingerprint", "fingerprints: the list is empty.")
	}
}

// trust reports what does not say plainly whose signature is good.
func (l *loader) trust(r Repository, content *hcl.BodyContent, at hcl.Range) {
	has := content.Attributes
	switch {
	case has["signing_key"] != nil && r.Unsigned:
		l.fault(has["signing_key"].Range, "Repository signed and unsigned", "Either signing_key or unsigned = true, not both.")
	case has["public_key"] != nil && r.Unsigned:
		l.fault(has["public_key"].Range, "Repository signed and unsigned", "Either public_key or unsigned = true, not both.")
	case has["fingerprints"] != nil && r.Unsigned:
		l.fault(has["fingerprints"].Range, "Repository signed and unsigned", "Either fingerprints or unsigned = true, not both.")
	case has["signing_key"] != nil && has["public_key"] != nil:
		l.fault(has["public_key"].Range, "Two keys", "The public key is a part of signing_key; public_key is for a repository that is only read.")
	case has["signing_key"] != nil && r.Format == "simplestreams":
		l.fault(has["signing_key"].Range, "Nothing to sign", "What is read as simplestreams is not written: give public_key.")
	case has["fingerprints"] != nil && has["public_key"] == nil && r.Format == "simplestreams":
		l.fault(has["fingerprints"].Range, "Repository without a key", "simplestreams have no key beside them: give public_key, too.")
	case has["signing_key"] == nil && has["public_key"] == nil && has["fingerprints"] == nil && !r.Unsigned:
		l.fault(at, "Repository without a key", `Give signing_key, the path of an OpenPGP secret key or env("…"), or to read only public_key or fingerprints, or say unsigned = true.`)
	}
}

// credentials reports those that nobody would ask for.
func (l *loader) credentials(r Repository, content *hcl.BodyContent) {
	has := content.Attributes
	if has["url"] != nil && r.URL == "" && r.Path == "" { // not known where
		return
	}
	s3 := strings.HasPrefix(r.URL, "s3:")
	for _, field := range []string{"access_key", "secret_key", "session_token"} {
		if has[field] != nil && !s3 {
			l.fault(has[field].Range, "Key of nothing", fmt.Sprintf("%s is for a bucket, whose address begins with s3:.", field))
		}
	}
	if has["token"] != nil && !isWeb(r.URL) {
		l.fault(has["token"].Range, "Key of nothing", "token is for a web server, whose address begins with http: or https:.")
	}
	switch plain := isPlain(r.URL) && has["token"] != nil; {
	case plain && !r.TrustedHTTP:
		l.fault(has["token"].Range, "Token in clear", "By http everybody on the way can read the token: use https or, in a network that has nobody else in it, say trusted_http = true.")
	case !plain && r.TrustedHTTP:
		l.fault(has["trusted_http"].Range, "Nothing to trust", "trusted_http is for a token that goes to another machine by http.")
	}
	switch {
	case !s3:
	case has["access_key"] != nil && has["secret_key"] == nil:
		l.fault(has["access_key"].Range, "Half a key", "access_key goes with secret_key.")
	case has["secret_key"] != nil && has["access_key"] == nil:
		l.fault(has["secret_key"].Range, "Half a key", "secret_key goes with access_key.")
	case has["session_token"] != nil && has["access_key"] == nil:
		l.fault(has["session_token"].Range, "Half a key", "session_token goes with access_key and secret_key.")
	}
}
