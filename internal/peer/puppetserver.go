package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// PuppetName is the name that the Puppet server's certificate is made out for,
// beside localhost.
const PuppetName = "puppet.example.org"

// PuppetServer is Debian's Puppet server with its CA, on a port of the loopback
// (10.0.2.2 for a guest of QEMU's user network). It takes a minute to start: one
// test with subtests should have it.
type PuppetServer struct {
	Port int
	// Code is the directory of environments, which a test may change: production
	// (package, template, service), quiet (changes nothing), broken (does not
	// compile), failing, restless (never idempotent), hanging, interrupted (waits
	// for the server's end); and of modules.
	Code string

	dir   string
	ended <-chan struct{}
	kill  func()
}

// Puppet configures how the server signs.
type Puppet struct {
	Challenge string // if not "", only requests with this password are signed at once; else all are
	Manual    bool   // none is
}

// puppetSystem is what Debian's programs have wired in, and must be left alone.
var puppetSystem = []string{"/etc/puppet", "/var/lib/puppet", "/var/lib/puppetserver", "/var/log/puppetserver", "/var/cache/puppet"}

// NewPuppetServer starts a server with directories of its own and ends it with the
// test, or with the test's process.
func NewPuppetServer(t testing.TB, how Puppet) *PuppetServer {
	t.Helper()
	NeedTool(t, "puppetserver", "java", "puppet", "dpkg-deb", "openssl")
	NeedRoot(t, "a server that runs as puppet")
	Alone(t, "puppet") // an agent on this host makes directories where it looks for devices
	before := Listing(t, puppetSystem...)
	t.Cleanup(func() {
		if after := Listing(t, puppetSystem...); after != before {
			t.Errorf("the system's own Puppet was changed, from\n%s\nto\n%s", before, after)
		}
	})
	dir, err := os.MkdirTemp("", "puppetserver-") // the test's own directory is closed to puppet
	Must(t, err)
	t.Cleanup(func() { Must(t, os.RemoveAll(dir)) })
	s, err := StartPuppetServer(t.Context(), dir, how)
	Must(t, err)
	t.Cleanup(s.Kill)
	return s
}

// StartPuppetServer starts a server in an empty directory that its user, puppet, can
// reach. It ends with Kill, or with this process. It needs root.
func StartPuppetServer(ctx context.Context, dir string, how Puppet) (*PuppetServer, error) {
	s := &PuppetServer{dir: dir, Code: filepath.Join(dir, "code")}
	err := os.Chmod(dir, 0o755)
	for _, do := range []func() error{
		s.layCode,
		func() error { return s.configure(how) },
		func() error { return s.start(ctx) },
	} {
		if err == nil {
			err = do()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("start a Puppet server in %s: %w", dir, err)
	}
	return s, nil
}

//go:embed testdata/puppet
var puppetCode embed.FS

// layCode lays down the environments and modules of testdata, with the package.
func (s *PuppetServer) layCode() error {
	code, err := fs.Sub(puppetCode, "testdata/puppet")
	if err != nil {
		return err
	}
	files := filepath.Join(s.Code, "modules/herd/files")
	if err := errors.Join(os.CopyFS(s.Code, code), os.MkdirAll(files, 0o755)); err != nil {
		return err
	}
	out, err := exec.Command("dpkg-deb", "--root-owner-group", "-Znone", "--build", filepath.Join(s.Code, "package"), filepath.Join(files, "herd-hello.deb")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make the package: %w\n%s", err, out)
	}
	environments, err := fs.ReadDir(code, "environments")
	if err != nil {
		return err
	}
	for _, environment := range environments {
		err = errors.Join(err, s.setVersion(environment.Name(), "v1"))
	}
	for _, name := range []string{"config_version.sh", "autosign.sh"} {
		err = errors.Join(err, os.Chmod(filepath.Join(s.Code, name), 0o755))
	}
	return err
}

// SetVersion sets what an environment's config_version says from now on.
func (s *PuppetServer) SetVersion(t testing.TB, environment, version string) {
	t.Helper()
	Must(t, s.setVersion(environment, version))
}

func (s *PuppetServer) setVersion(environment, version string) error {
	return os.WriteFile(filepath.Join(s.Code, "environments", environment, "version"), []byte(version+"\n"), 0o644)
}

func (s *PuppetServer) configure(how Puppet) (err error) {
	signing := "true"
	switch {
	case how.Challenge != "":
		signing = filepath.Join(s.Code, "autosign.sh")
		err = os.WriteFile(filepath.Join(s.Code, "challenge"), []byte(how.Challenge), 0o644)
	case how.Manual:
		signing = "false"
	}
	if err := errors.Join(err, os.MkdirAll(filepath.Join(s.dir, "conf"), 0o755)); err != nil {
		return err
	}
	if s.Port, err = freePort(); err != nil {
		return err
	}
	text := fmt.Sprintf(puppetConf, PuppetName, filepath.Join(s.dir, "ssl"), filepath.Join(s.dir, "ca"), s.dir, s.Port, signing)
	if err := errors.Join(os.WriteFile(s.conf(), []byte(text), 0o644), s.settings()); err != nil {
		return err
	}
	for _, name := range []string{"ssl", "ca", "var", "run", "log"} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(s.dir, name), 0o750))
	}
	uid, gid, noUser := puppetUser()
	if err := errors.Join(err, noUser); err != nil {
		return err
	}
	return filepath.WalkDir(s.dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, int(uid), int(gid)))
	})
}

// settings are Debian's, with directories and a port of this server's own.
func (s *PuppetServer) settings() error {
	settings := filepath.Join(s.dir, "ps")
	if err := os.CopyFS(settings, os.DirFS("/etc/puppet/puppetserver")); err != nil {
		return err
	}
	for name, old := range map[string][]string{
		"conf.d/puppetserver.conf": {
			"/etc/puppet/code", s.Code, "/etc/puppet", filepath.Join(s.dir, "conf"), "/var/lib/puppetserver", filepath.Join(s.dir, "var"),
			"/run/puppetserver", filepath.Join(s.dir, "run"), "/var/log/puppetserver", filepath.Join(s.dir, "log"),
			"ruby-load-path:", "max-active-instances: 1\n    ruby-load-path:",
		},
		"conf.d/webserver.conf": {"/etc/puppet/puppetserver", settings, "0.0.0.0", "127.0.0.1", "8140", strconv.Itoa(s.Port)},
		"conf.d/global.conf":    {"/etc/puppet/puppetserver", settings},
		"conf.d/auth.conf":      {"rules: [", "rules: [\n" + ownStatus},
		"logback.xml":           {"/var/log/puppetserver", filepath.Join(s.dir, "log")},
		"request-logging.xml":   {"/var/log/puppetserver", filepath.Join(s.dir, "log")},
	} {
		path := filepath.Join(settings, name)
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, []byte(strings.NewReplacer(old...).Replace(string(text))), 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// puppetConf takes the server's name, ssldir, cadir, the directory of all, the port
// and autosign. Debian's ssldir and cadir follow no other setting. By server the
// commands of the CA find it.
const puppetConf = `[main]
certname = %[1]s
ssldir = %[2]s
cadir = %[3]s
publicdir = %[4]s/public
server = localhost
serverport = %[5]d
[server]
autosign = %[6]s
dns_alt_names = DNS:localhost,DNS:%[1]s
`

// ownStatus lets who has a certificate revoke it, and remove it from the CA, as a
// site may that has herdbook do so.
const ownStatus = `        {
            match-request: {
                path: "^/puppet-ca/v1/certificate_status/([^/]+)$"
                type: regex
                method: [put, delete]
            }
            allow: ["$1", { extensions: { pp_cli_auth: "true" } }]
            sort-order: 400
            name: "own certificate status"
        },
`

func (s *PuppetServer) conf() string { return filepath.Join(s.dir, "conf/puppet.conf") }

// puppetUser is the user that Debian's package makes for the server.
func puppetUser() (uid, gid uint32, err error) {
	who, err := user.Lookup("puppet")
	if err != nil {
		return 0, 0, err
	}
	u, err1 := strconv.ParseUint(who.Uid, 10, 32)
	g, err2 := strconv.ParseUint(who.Gid, 10, 32)
	return uint32(u), uint32(g), errors.Join(err1, err2)
}

// freePort finds a port of the loopback that nobody listens on. Somebody may take
// it before the server does, which then ends and says so.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return listener.Addr().(*net.TCPAddr).Port, listener.Close()
}

func (s *PuppetServer) start(ctx context.Context) error {
	c := exec.Command("java", "-Xms512m", "-Xmx1g", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto",
		"-Djruby.logger.class=com.puppetlabs.jruby_utils.jruby.Slf4jLogger", "-Dlogappender=STDOUT", "-Djruby.lib=/usr/share/jruby/lib",
		"-Djava.io.tmpdir="+filepath.Join(s.dir, "run"),
		"-jar", "/usr/share/puppetserver/puppetserver.jar", "--config", filepath.Join(s.dir, "ps/conf.d"),
		"--bootstrap-config", filepath.Join(s.dir, "ps/services.d"), "--restart-file", filepath.Join(s.dir, "run/restart"))
	c.Env = []string{"HOME=" + filepath.Join(s.dir, "var"), "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	c.Dir = s.dir
	uid, gid, err := puppetUser()
	if err != nil {
		return err
	}
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	started, done := make(chan error), make(chan struct{})
	go func() {
		// The signal of the parent's death comes with that of the thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(done)
		err := c.Start()
		started <- err
		if err == nil {
			_ = c.Wait() // it is killed
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	s.ended = done
	s.kill = func() {
		_ = c.Process.Kill() // an error says that it has ended already
		<-done
	}
	ready := make(chan bool, 1)
	go func() { ready <- s.wait() }()
	select {
	case runs := <-ready:
		if !runs {
			return fmt.Errorf("it ended: %s", &said)
		}
	case <-ctx.Done():
		s.kill()
		return context.Cause(ctx)
	}
	return nil
}

// wait asks for the server's state until it runs, or has ended.
func (s *PuppetServer) wait() (runs bool) {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	for {
		if response, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d/status/v1/simple", s.Port)); err == nil {
			text, err := io.ReadAll(io.LimitReader(response.Body, 100))
			_ = response.Body.Close()
			if err == nil && string(text) == "running" {
				return true
			}
		}
		select {
		case <-s.ended:
			return false
		case <-time.After(200 * time.Millisecond): // it does not say when it runs
		}
	}
}

// Kill ends the server as a crash does.
func (s *PuppetServer) Kill() { s.kill() }

// CA runs a command of the CA, such as list --all or clean --certname NAME.
func (s *PuppetServer) CA(t testing.TB, args ...string) string {
	t.Helper()
	return Run(t, "puppetserver", append(append([]string{"ca"}, args...), "--config", s.conf())...)
}

// Generate makes a certificate whose key nobody of the test has.
func (s *PuppetServer) Generate(t testing.TB, name string) {
	t.Helper()
	s.CA(t, "generate", "--certname", name)
}

// AccessLog is what the server was asked for, a line of each request.
func (s *PuppetServer) AccessLog(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "log/puppetserver-access.log"))
	Must(t, err)
	return string(text)
}

// Listing tells of every file below directories what shows a change. Of a directory
// that is what is in it.
func Listing(t testing.TB, dirs ...string) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range dirs {
		Must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			stat, err := os.Lstat(path)
			if err != nil {
				return err
			}
			fmt.Fprint(&b, path, " ", stat.Mode())
			if !stat.IsDir() {
				fmt.Fprint(&b, " ", stat.Size(), " ", stat.ModTime().UnixNano())
			}
			b.WriteByte('\n')
			return nil
		}))
	}
	return b.String()
}
