package openstack

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"go.yaml.in/yaml/v4"
)

// cloud is where images are sent.
type cloud struct {
	name    string // as the user knows it
	project string // whose images they are
	images  *gophercloud.ServiceClient
	servers *gophercloud.ServiceClient // nil where the cloud has none
}

// access is how a cloud is entered. It holds secrets.
type access struct {
	name     string
	auth     gophercloud.AuthOptions
	endpoint gophercloud.EndpointOpts
	tls      *tls.Config
}

// environment is a variable of the user's, "" if it is not set.
func (e *Exporter) environment(name string) string {
	if e.LookupEnv == nil {
		return ""
	}
	value, _ := e.LookupEnv(name)
	return value
}

// access finds out how the cloud is entered, as openstackclient does: by the name of one
// in clouds.yaml, or by variables OS_….
func (e *Exporter) access() (a access, err error) {
	a.name = e.Cloud
	if a.name == "" {
		a.name = e.environment("OS_CLOUD")
	}
	options := []clouds.ParseOption{clouds.WithRegion(e.environment("OS_REGION_NAME")), clouds.WithEndpointType(e.environment("OS_INTERFACE"))}
	if a.name != "" {
		path, err := e.cloudsFile(a.name)
		if err != nil {
			return a, err
		}
		options = append(options, clouds.WithCloudName(a.name), clouds.WithLocations(path))
	} else {
		a.name = e.environment("OS_AUTH_URL")
		text, err := e.synthesis()
		if err != nil {
			return a, err
		}
		options = append(options, clouds.WithCloudName(synthetic), clouds.WithCloudsYAML(strings.NewReader(text)))
	}
	if a.auth, a.endpoint, a.tls, err = clouds.Parse(options...); err != nil {
		return a, fmt.Errorf("read how the cloud %s is entered: %w", a.name, discreet(err))
	}
	a.auth.AllowReauth = a.auth.TokenID == ""
	// The domain that every Keystone has, as openstackclient takes it.
	if a.auth.Username != "" && a.auth.DomainID == "" && a.auth.DomainName == "" {
		a.auth.DomainID = "default"
	}
	if s := a.auth.Scope; s != nil && s.ProjectName != "" && s.DomainID == "" && s.DomainName == "" {
		s.DomainID = "default"
	}
	return a, nil
}

// discreet leaves out what the reader of YAML says, which could quote a secret.
func discreet(err error) error {
	root := err
	for inner := errors.Unwrap(root); inner != nil; inner = errors.Unwrap(root) {
		root = inner
	}
	if strings.HasPrefix(root.Error(), "yaml: ") {
		return errors.New("clouds.yaml, or secure.yaml beside it, has not the form that openstackclient reads")
	}
	return err
}

// maxClouds bounds a clouds.yaml, in bytes.
const maxClouds = 1 << 20

// cloudsFile finds the clouds.yaml, where openstackclient looks for it, and makes sure
// that it names the cloud.
func (e *Exporter) cloudsFile(name string) (string, error) {
	dirs := []string{".", "/etc/openstack"}
	if home := e.environment("XDG_CONFIG_HOME"); home != "" {
		dirs = slices.Insert(dirs, 1, filepath.Join(home, "openstack"))
	} else if home := e.environment("HOME"); home != "" {
		dirs = slices.Insert(dirs, 1, filepath.Join(home, ".config/openstack"))
	}
	var candidates []string
	for _, dir := range dirs {
		candidates = append(candidates, filepath.Join(dir, "clouds.yaml"), filepath.Join(dir, "clouds.yml"))
	}
	if path := e.environment("OS_CLIENT_CONFIG_FILE"); path != "" {
		candidates = []string{path}
	}
	for _, path := range candidates {
		f, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(io.LimitReader(f, maxClouds))
		if err := errors.Join(err, f.Close()); err != nil {
			return "", err
		}
		var file clouds.Clouds
		if err := yaml.Unmarshal(text, &file); err != nil {
			return "", fmt.Errorf("read %s: it is no clouds.yaml", path) // the cause could quote a secret
		}
		known, ok := file.Clouds[name]
		if !ok {
			return "", fmt.Errorf("%s has no cloud %q; it has %s", path, name, strings.Join(slices.Sorted(maps.Keys(file.Clouds)), ", "))
		}
		if known.AuthInfo == nil {
			return "", fmt.Errorf("%s says no auth of the cloud %q", path, name)
		}
		return path, nil
	}
	return "", fmt.Errorf("there is no clouds.yaml, which would say how the cloud %q is entered: none of %s", name, strings.Join(candidates, ", "))
}

// synthetic is the name of the cloud that variables describe.
const synthetic = "environment"

// The variables, and the fields of clouds.yaml that they stand for.
var (
	authVariables = []string{
		"auth_url", "token", "username", "user_id", "password", "user_domain_name", "user_domain_id", "project_name", "project_id", "project_domain_name",
		"project_domain_id", "domain_name", "domain_id", "application_credential_id", "application_credential_name",
		"application_credential_secret", "system_scope", "trust_id",
	}
	cloudVariables = []string{"cacert", "cert", "key"}
)

// synthesis is a clouds.yaml of what variables say.
func (e *Exporter) synthesis() (string, error) {
	if e.environment("OS_AUTH_URL") == "" {
		return "", errors.New("the environment names no cloud: set OS_CLOUD, or OS_AUTH_URL with its like, or say cloud = \"NAME\"")
	}
	auth, entry := map[string]string{}, map[string]any{}
	for _, name := range authVariables {
		if value := e.environment("OS_" + strings.ToUpper(name)); value != "" {
			auth[name] = value
		}
	}
	for old, name := range map[string]string{"OS_TENANT_NAME": "project_name", "OS_TENANT_ID": "project_id"} {
		if value := e.environment(old); value != "" && auth[name] == "" {
			auth[name] = value
		}
	}
	for _, name := range cloudVariables {
		if value := e.environment("OS_" + strings.ToUpper(name)); value != "" {
			entry[name] = value
		}
	}
	entry["auth"] = auth
	text, err := json.Marshal(map[string]any{"clouds": map[string]any{synthetic: entry}})
	return string(text), err
}

// enter logs in.
func (a access) enter(ctx context.Context) (*cloud, error) {
	provider, err := openstack.NewClient(a.auth.IdentityEndpoint)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig, transport.ResponseHeaderTimeout = a.tls, answerWithin
	provider.HTTPClient = http.Client{Transport: limited{transport}}
	provider.UserAgent.Prepend("herdbook")
	if err := openstack.Authenticate(ctx, provider, a.auth); err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	c := &cloud{name: a.name}
	if c.project, err = project(provider); err != nil {
		return nil, err
	}
	if c.images, err = openstack.NewImageV2(provider, a.endpoint); err != nil {
		return nil, fmt.Errorf("find the image service: %w", err)
	}
	if c.servers, err = openstack.NewComputeV2(provider, a.endpoint); err != nil {
		var none *gophercloud.ErrEndpointNotFound
		if !errors.As(err, &none) {
			return nil, fmt.Errorf("find the compute service: %w", err)
		}
		c.servers = nil
	}
	return c, nil
}

// project is that of the token.
func project(provider *gophercloud.ProviderClient) (string, error) {
	result, ok := provider.GetAuthResult().(interface {
		ExtractProject() (*tokens.Project, error)
	})
	if !ok {
		return "", errors.New("the identity service is not version 3")
	}
	p, err := result.ExtractProject()
	if err != nil {
		return "", fmt.Errorf("find the project: %w", err)
	}
	if p == nil {
		return "", errors.New("the credentials are for no project: name it in project_name, with project_domain_name, or OS_PROJECT_NAME")
	}
	return p.ID, nil
}

// answerWithin is how long a service may think about a request that it has got. Glance
// does so once all bytes of an image are there, which it may have to write elsewhere.
const answerWithin = 10 * time.Minute

// limited bounds what services may answer, and tells them the length of what comes: not
// every server in front of Glance takes a body without.
type limited struct{ http.RoundTripper }

// maxAnswer is the most that is read of an answer, in bytes.
const maxAnswer = 64 << 20

// RoundTrip implements http.RoundTripper.
func (l limited) RoundTrip(request *http.Request) (*http.Response, error) {
	if body, ok := request.Body.(*upload); ok {
		request = request.Clone(request.Context())
		request.ContentLength = body.size
	}
	response, err := l.RoundTripper.RoundTrip(request)
	if err == nil {
		response.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(response.Body, maxAnswer), response.Body}
	}
	return response, err
}
