package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"herdbook/internal/artefact"
)

// accounts are files in which accounts of registries may be, as "docker login" and "podman
// login" write them. The first that knows a registry counts.
type accounts []string

// findAccounts finds them in the order in which Docker and Podman look.
func findAccounts(lookup func(string) (string, bool)) (files accounts) {
	for _, place := range []struct{ variable, below string }{
		{"DOCKER_CONFIG", "config.json"}, {"HOME", ".docker/config.json"}, {"REGISTRY_AUTH_FILE", ""},
		{"XDG_RUNTIME_DIR", "containers/auth.json"}, {"XDG_CONFIG_HOME", "containers/auth.json"}, {"HOME", ".config/containers/auth.json"},
	} {
		if lookup == nil {
			break
		}
		if value, ok := lookup(place.variable); ok && value != "" {
			files = append(files, filepath.Join(value, place.below))
		}
	}
	return files
}

// Resolve implements authn.Keychain.
func (a accounts) Resolve(registry authn.Resource) (authn.Authenticator, error) {
	for _, path := range a {
		account, err := accountIn(path, registry)
		if err != nil {
			return nil, fmt.Errorf("find the account for %s in %s: %w", registry.RegistryStr(), path, err)
		}
		if account != nil {
			return account, nil
		}
	}
	return authn.Anonymous, nil
}

// accountIn reads an account, or asks the program that the file names for it; nil if there
// is none.
func accountIn(path string, registry authn.Resource) (authn.Authenticator, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	file, err := config.LoadFromReader(f)
	if err != nil {
		return nil, err
	}
	for _, key := range []string{registry.String(), registry.RegistryStr()} {
		if key == name.DefaultRegistry {
			key = authn.DefaultAuthKey
		}
		found, err := file.GetAuthConfig(key)
		if err != nil {
			return nil, err
		}
		if found.ServerAddress = ""; found != (types.AuthConfig{}) {
			return authn.FromConfig(authn.AuthConfig{
				Username: found.Username, Password: found.Password, Auth: found.Auth, IdentityToken: found.IdentityToken, RegistryToken: found.RegistryToken,
			}), nil
		}
	}
	return nil, nil
}

// guarded sends nothing in the clear but to the loopback, unless it is insecure. The
// library would, to any private address. It bounds what a registry answers, and keeps when
// that wants to be asked again.
type guarded struct {
	http.RoundTripper
	insecure bool
}

// maxAnswer is the most that is read of an answer, in bytes: registries take manifests of 4 MiB.
const maxAnswer = 8 << 20

var errClear = errors.New("the registry speaks no HTTPS; insecure = true pushes without it, with all accounts in the clear")

// RoundTrip implements http.RoundTripper.
func (g guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	host := r.URL.Hostname()
	if r.URL.Scheme == "http" && !g.insecure && host != "localhost" && !net.ParseIP(host).IsLoopback() {
		return nil, errClear
	}
	response, err := g.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, maxAnswer), response.Body}
	if wish := artefact.RetryAfter(response.Header.Get("Retry-After"), response.Header.Get("Date")); wish > 0 {
		response.Request = r.WithContext(context.WithValue(r.Context(), wished{}, wish))
	}
	return response, nil
}

// wished is by what the request of an answer has the time for which the registry wants to
// be left alone: the errors that the library makes of answers have nothing else of them.
type wished struct{}

// retryAfter is that time; 0 for none.
func retryAfter(err error) time.Duration {
	var status *transport.Error
	if !errors.As(err, &status) || status.Request == nil {
		return 0
	}
	wish, _ := status.Request.Context().Value(wished{}).(time.Duration)
	return wish
}

// short is what a registry answered, without the pages that proxies write.
func short(err error) string {
	var status *transport.Error
	switch {
	case !errors.As(err, &status):
		return err.Error()
	case len(status.Errors) == 0:
		return fmt.Sprintf("%d %s", status.StatusCode, http.StatusText(status.StatusCode))
	}
	text := status.Error()
	return strings.ToValidUTF8(text[:min(len(text), 1000)], "")
}

// explain says what can be done about an error.
func explain(to name.Repository, err error) error {
	var status *transport.Error
	if !errors.As(err, &status) {
		if dropped(err) {
			return fmt.Errorf("%w: the connection does not last; the next build goes on behind the layers that are there", err)
		}
		return err
	}
	hint := ""
	switch code := status.StatusCode; {
	case code == http.StatusUnauthorized:
		hint = fmt.Sprintf(`it wants an account, or another one: "docker login %s" or "podman login %s"`, to.RegistryStr(), to.RegistryStr())
	case code == http.StatusForbidden:
		hint = fmt.Sprintf("the account may not push to %s there: ask for the right, or log in with another", to.RepositoryStr())
	case code == http.StatusNotFound:
		hint = "there is no such repository, or no registry at this address"
	case code == http.StatusRequestEntityTooLarge:
		hint = "a proxy before the registry limits uploads: raise its limit"
	case code == http.StatusTooManyRequests:
		hint = "it has had too many requests: build again later, which goes on behind the layers that are there"
	case code >= 500:
		hint = "the registry is in trouble: build again later, which goes on behind the layers that are there"
	default:
		hint = "the registry refuses what it was sent"
	}
	return fmt.Errorf("%s: %s", short(err), hint)
}
