package peer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// OpenStack is Debian's Keystone with its Glance, on ports of the loopback. Two
// projects are in it, herd and other, each with a user of its name who is a member, and
// Password.
type OpenStack struct {
	AuthURL  string
	Config   string            // a clouds.yaml with clouds herd, other, admin, and application: herd's, by an application credential
	Projects map[string]string // name → ID
	Secrets  []string          // that nobody may tell

	t     testing.TB
	dir   string
	token string
}

// OpenStackPassword is everybody's.
const OpenStackPassword = "the herd's own password"

// NewOpenStack starts both and ends them with the test, or with the test's process. It
// takes half a minute. Glance may fetch images from a port of the loopback.
func NewOpenStack(t testing.TB, webPort int) *OpenStack {
	t.Helper()
	NeedTool(t, "keystone-manage", "glance-manage", "glance-api", "keystone-wsgi-public", "uwsgi", "openstack", "sqlite3")
	NeedRoot(t, "keystone-manage, which gives files to a user,")
	o := &OpenStack{t: t, dir: t.TempDir(), Projects: map[string]string{}}
	identity, err := freePort()
	Must(t, err)
	image, err := freePort()
	Must(t, err)
	o.AuthURL = fmt.Sprintf("http://127.0.0.1:%d/v3", identity)
	for _, name := range []string{"fernet", "credential", "store", "staging", "tasks", "policy.d"} {
		Must(t, os.MkdirAll(o.path(name), 0o755))
	}
	o.write("keystone.conf", keystoneConf)
	o.write("uwsgi.ini", fmt.Sprintf(uwsgiConf, identity))
	o.write("glance-api.conf", fmt.Sprintf(glanceConf, image, webPort, identity, OpenStackPassword))
	manage := func(args ...string) {
		Run(t, "keystone-manage", append([]string{"--config-file", o.path("keystone.conf")}, args...)...)
	}
	manage("db_sync")
	manage("fernet_setup", "--keystone-user", "root", "--keystone-group", "root")
	manage("credential_setup", "--keystone-user", "root", "--keystone-group", "root")
	manage("bootstrap", "--bootstrap-password", OpenStackPassword, "--bootstrap-admin-url", o.AuthURL, "--bootstrap-internal-url", o.AuthURL,
		"--bootstrap-public-url", o.AuthURL, "--bootstrap-region-id", "RegionOne")
	Run(t, "glance-manage", "--config-file", o.path("glance-api.conf"), "db_sync")
	for _, name := range []string{"keystone.sqlite", "glance.sqlite"} {
		// Else a write that follows a read of the same request finds the database locked.
		Run(t, "sqlite3", o.path(name), "pragma journal_mode=WAL")
	}
	o.start("uwsgi", o.AuthURL, "--ini", o.path("uwsgi.ini"))
	o.start("glance-api", fmt.Sprintf("http://127.0.0.1:%d/", image), "--config-file", o.path("glance-api.conf"))
	o.populate(fmt.Sprintf("http://127.0.0.1:%d", image))
	return o
}

func (o *OpenStack) path(name string) string { return filepath.Join(o.dir, name) }

// write writes a configuration, in which DIR is the directory.
func (o *OpenStack) write(name, text string) {
	Must(o.t, os.WriteFile(o.path(name), []byte(strings.ReplaceAll(text, "DIR", o.dir)), 0o600))
}

// start starts a server and waits for its first answer.
func (o *OpenStack) start(name, url string, args ...string) {
	o.t.Helper()
	c := exec.Command(name, args...)
	c.Dir, c.Env = o.dir, []string{"HOME=" + o.dir, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	said, err := os.Create(o.path(name + ".log"))
	Must(o.t, err)
	c.Stdout, c.Stderr = said, said
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ended := startTied(o.t, c)
	o.t.Cleanup(func() { Must(o.t, said.Close()) })
	for {
		if response, err := http.Get(url); err == nil {
			Must(o.t, response.Body.Close())
			return
		}
		select {
		case <-ended:
			text, _ := os.ReadFile(said.Name())
			o.t.Fatalf("%s ended: %s", name, text)
		case <-time.After(50 * time.Millisecond): // it does not say when it listens
		}
	}
}

// populate makes the catalogue, the projects and the users.
func (o *OpenStack) populate(glance string) {
	o.login()
	service := o.make("services", "service", map[string]any{"name": "glance", "type": "image"})
	o.make("endpoints", "endpoint", map[string]any{"service_id": service, "interface": "public", "region_id": "RegionOne", "url": glance})
	role := o.role("member")
	clouds := map[string]any{"admin": o.cloud("admin")}
	for _, name := range []string{"herd", "other"} {
		project := o.make("projects", "project", map[string]any{"name": name, "domain_id": "default"})
		user := o.make("users", "user", map[string]any{"name": name, "domain_id": "default", "password": OpenStackPassword})
		o.ask("PUT", "projects/"+project+"/users/"+user+"/roles/"+role, nil, nil)
		o.Projects[name], clouds[name] = project, o.cloud(name)
	}
	o.writeClouds(clouds)
	var credential struct{ ID, Secret string }
	Must(o.t, json.Unmarshal([]byte(o.Client("herd", "application", "credential", "create", "-f", "json", "builder")), &credential))
	clouds["application"] = map[string]any{"auth_type": "v3applicationcredential", "region_name": "RegionOne", "auth": map[string]string{
		"auth_url": o.AuthURL, "application_credential_id": credential.ID, "application_credential_secret": credential.Secret,
	}}
	o.writeClouds(clouds)
	o.Secrets = []string{OpenStackPassword, credential.Secret}
}

func (o *OpenStack) cloud(name string) map[string]any {
	return map[string]any{"region_name": "RegionOne", "identity_api_version": 3, "auth": map[string]string{
		"auth_url": o.AuthURL, "username": name, "password": OpenStackPassword, "project_name": name, "user_domain_id": "default", "project_domain_id": "default",
	}}
}

// writeClouds writes a clouds.yaml: JSON is YAML.
func (o *OpenStack) writeClouds(clouds map[string]any) {
	text, err := json.Marshal(map[string]any{"clouds": clouds})
	Must(o.t, err)
	o.Config = o.path("clouds.yaml")
	Must(o.t, os.WriteFile(o.Config, text, 0o600))
}

// login gets a token for the administrator.
func (o *OpenStack) login() {
	var said any
	header := o.ask("POST", "auth/tokens", map[string]any{"auth": map[string]any{
		"identity": map[string]any{"methods": []string{"password"}, "password": map[string]any{"user": map[string]any{
			"name": "admin", "domain": map[string]any{"id": "default"}, "password": OpenStackPassword,
		}}},
		"scope": map[string]any{"project": map[string]any{"name": "admin", "domain": map[string]any{"id": "default"}}},
	}}, &said)
	o.token = header.Get("X-Subject-Token")
}

// make makes something and returns its ID.
func (o *OpenStack) make(where, what string, of map[string]any) string {
	var said map[string]struct{ ID string }
	o.ask("POST", where, map[string]any{what: of}, &said)
	return said[what].ID
}

func (o *OpenStack) role(name string) string {
	var said struct{ Roles []struct{ ID string } }
	o.ask("GET", "roles?name="+name, nil, &said)
	if len(said.Roles) != 1 {
		o.t.Fatalf("Keystone has %d roles %s", len(said.Roles), name)
	}
	return said.Roles[0].ID
}

// ask asks Keystone, which must agree.
func (o *OpenStack) ask(method, path string, body, answer any) http.Header {
	o.t.Helper()
	var text []byte
	var err error
	if body != nil {
		text, err = json.Marshal(body)
		Must(o.t, err)
	}
	request, err := http.NewRequestWithContext(o.t.Context(), method, o.AuthURL+"/"+path, bytes.NewReader(text))
	Must(o.t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Auth-Token", o.token)
	response, err := http.DefaultClient.Do(request)
	Must(o.t, err)
	said, err := io.ReadAll(response.Body)
	Must(o.t, err)
	Must(o.t, response.Body.Close())
	if response.StatusCode >= 300 {
		o.t.Fatalf("Keystone answers %s %s by %s: %s", method, path, response.Status, said)
	}
	if answer != nil {
		Must(o.t, json.Unmarshal(said, answer))
	}
	return response.Header
}

// Client runs openstackclient as one of the clouds, and returns what it prints.
func (o *OpenStack) Client(cloud string, args ...string) string {
	o.t.Helper()
	c := exec.Command("openstack", args...)
	c.Dir, c.Env = o.dir, []string{"HOME=" + o.dir, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "OS_CLIENT_CONFIG_FILE=" + o.Config, "OS_CLOUD=" + cloud}
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	if err := c.Run(); err != nil {
		o.t.Fatalf("openstack %s: %v\n%s", strings.Join(args, " "), err, &said)
	}
	return out.String()
}

const keystoneConf = `[database]
connection = sqlite:///DIR/keystone.sqlite
[token]
provider = fernet
[fernet_tokens]
key_repository = DIR/fernet
[fernet_receipts]
key_repository = DIR/fernet
[credential]
key_repository = DIR/credential
[cache]
enabled = false
`

// uwsgiConf takes the port. One process alone ends whole when it is killed.
const uwsgiConf = `[uwsgi]
plugins = python3
http-socket = 127.0.0.1:%d
wsgi-file = /usr/bin/keystone-wsgi-public
env = OS_KEYSTONE_CONFIG_DIR=DIR
pyargv = --config-file DIR/keystone.conf
buffer-size = 65535
add-header = Connection: close
post-buffering = 65536
need-app = true
`

// glanceConf takes the port, that of a web server, Keystone's, and the administrator's
// password. Without workers of its own it ends whole when it is killed.
const glanceConf = `[DEFAULT]
bind_host = 127.0.0.1
bind_port = %d
workers = 0
enabled_import_methods = [glance-direct,web-download]
enabled_backends = files:file
[import_filtering_opts]
allowed_hosts = [127.0.0.1]
allowed_ports = [%d]
[database]
connection = sqlite:///DIR/glance.sqlite
[glance_store]
default_backend = files
[files]
filesystem_store_datadir = DIR/store
[os_glance_staging_store]
filesystem_store_datadir = DIR/staging
[os_glance_tasks_store]
filesystem_store_datadir = DIR/tasks
[paste_deploy]
flavor = keystone
config_file = /etc/glance/glance-api-paste.ini
[oslo_policy]
policy_dirs = DIR/policy.d
[keystone_authtoken]
www_authenticate_uri = http://127.0.0.1:%[3]d/v3
auth_url = http://127.0.0.1:%[3]d/v3
auth_type = password
user_domain_id = default
project_domain_id = default
project_name = admin
username = admin
password = %[4]s
`
