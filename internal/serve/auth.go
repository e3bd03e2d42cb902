package serve

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// Credential is what lets somebody in: the digest of a secret, which can be compared
// without the secret.
type Credential struct{ sum [sha256.Size]byte }

// Password is a user's password, for basic authentication (RFC 7617).
func Password(user, password string) Credential {
	return Credential{sha256.Sum256([]byte("basic\x00" + user + ":" + password))}
}

// Token is a bearer's token (RFC 6750).
func Token(token string) Credential {
	return Credential{sha256.Sum256([]byte("bearer\x00" + token))}
}

// among compares in a time that says nothing of how near it was.
func (c Credential) among(known []Credential) bool {
	found := 0
	for i := range known {
		found |= subtle.ConstantTimeCompare(c.sum[:], known[i].sum[:])
	}
	return found == 1
}

// visitor is who asks.
type visitor struct {
	user   string // by basic authentication, if that was right
	known  bool   // showed a credential of some kind that is right
	reads  bool
	writes bool
}

// who tells what the credentials of a request let it do.
func (s *Server) who(r *http.Request) visitor {
	open := visitor{reads: len(s.options.Readers) == 0}
	given := r.Header.Get("Authorization")
	if given == "" {
		return open
	}
	var c Credential
	user, password, basic := r.BasicAuth()
	scheme, token, _ := strings.Cut(given, " ")
	switch {
	case basic:
		c = Password(user, password)
	case strings.EqualFold(scheme, "Bearer"):
		c = Token(strings.TrimSpace(token))
	default:
		return open
	}
	v := visitor{writes: c.among(s.options.Uploaders)}
	v.known = c.among(s.options.Readers) || v.writes
	v.reads = open.reads || v.known
	if basic && v.known {
		v.user = user
	}
	return v
}

// mayWrite refuses who may not.
func (s *Server) mayWrite(w http.ResponseWriter, r *http.Request, who visitor) bool {
	switch {
	case who.writes:
		return true
	case len(s.options.Uploaders) == 0 && r.URL.Path == listPath:
		refuse(w, http.StatusForbidden, "this server takes no uploads, and lists objects for those who upload only")
	case len(s.options.Uploaders) == 0:
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "this server takes no uploads")
	case who.known:
		refuse(w, http.StatusForbidden, "this is allowed with the token for uploads only")
	default:
		w.Header().Set("WWW-Authenticate", `Bearer realm="herdbook"`)
		refuse(w, http.StatusUnauthorized, "this needs the token for uploads")
	}
	return false
}

// challenge asks who it is. Of two ways the first is the one that browsers and curl know.
func (s *Server) challenge(w http.ResponseWriter, _ visitor) {
	w.Header()["Www-Authenticate"] = []string{`Basic realm="herdbook", charset="UTF-8"`, `Bearer realm="herdbook"`}
	refuse(w, http.StatusUnauthorized, "this repository is read with a password or a token")
}
