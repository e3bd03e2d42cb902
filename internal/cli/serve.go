package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"herdbook/internal/bucket"
	"herdbook/internal/serve"
	"herdbook/internal/web"
)

// serveFlags are those of repo serve.
type serveFlags struct {
	listen, cert, key string
	auth, upload      string // where secrets are
	name, url         string
	log               bool
	grace             time.Duration
}

func (a *app) repoServeCommand() *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use:   "serve [DIRECTORY]",
		Short: "Serve a repository over HTTP or HTTPS, to read, and with a token to publish to",
		Long: `Serve the repository in DIRECTORY, or in this one, until an interrupt or SIGTERM;
downloads that run then may end within --grace.

A file of secrets has one in each line: USER:PASSWORD for basic authentication, or a
token without a colon. env:NAME in place of a file takes them from the environment.`,
		Args: arguments(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			dir := "."
			if len(args) == 1 {
				dir = args[0]
			}
			return a.serveRepository(c.Context(), dir, f)
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8080", "address and port; port 0 is any free one")
	flags.StringVar(&f.cert, "tls-cert", "", "file of the certificate in PEM, with those that lead to its root; read anew when it changes")
	flags.StringVar(&f.key, "tls-key", "", "file of its key in PEM")
	flags.StringVar(&f.auth, "auth-file", "", "file of secrets, one of which a reader must have")
	flags.StringVar(&f.upload, "upload-token-file", "", "file of tokens, one of which an uploader must have")
	flags.StringVar(&f.name, "name", "", "name of the repository on its page (default the host's)")
	flags.StringVar(&f.url, "public-url", "", "where others reach the repository, if another server stands before this one")
	flags.BoolVar(&f.log, "log", false, "print a line for every request")
	flags.DurationVar(&f.grace, "grace", 30*time.Second, "how long downloads may go on after the end")
	return c
}

// collectAt is by how many percent the heap may grow before it is collected.
const collectAt = 40

// serveRepository serves until ctx ends.
func (a *app) serveRepository(ctx context.Context, dir string, f serveFlags) error {
	o, err := a.serveOptions(dir, f)
	if err != nil {
		return err
	}
	s, err := serve.New(o)
	if err != nil {
		return err
	}
	// Most of a server's memory is what its requests leave behind; there is little to
	// be looked through for that, and so it may be looked for often.
	debug.SetGCPercent(collectAt)
	s.HTTP.ErrorLog = log.New(a.Stderr, "note: ", 0)
	l, err := net.Listen("tcp", f.listen)
	if err != nil {
		return fmt.Errorf("serve %s: %w", dir, err)
	}
	scheme := "https"
	if f.cert == "" {
		scheme = "http"
		if at, ok := l.Addr().(*net.TCPAddr); ok && !at.IP.IsLoopback() && len(o.Readers)+len(o.Uploaders) > 0 {
			fmt.Fprintln(a.Stderr, "note: passwords and tokens come here so that everybody on the way can read them; --tls-cert and --tls-key prevent that")
		}
	}
	fmt.Fprintf(a.Stdout, "serving %s at %s://%s/\n", dir, scheme, l.Addr())
	return s.Serve(ctx, l)
}

func (a *app) serveOptions(dir string, f serveFlags) (serve.Options, error) {
	o := serve.Options{Dir: dir, Now: a.Now, Cert: f.cert, Key: f.key, Grace: f.grace, Sink: a.notices()}
	if (f.cert == "") != (f.key == "") {
		return o, usageError{"--tls-cert and --tls-key go together"}
	}
	var err error
	if o.Readers, err = a.credentials("--auth-file", f.auth, true); err != nil {
		return o, err
	}
	if o.Uploaders, err = a.credentials("--upload-token-file", f.upload, false); err != nil {
		return o, err
	}
	// A directory that is no repository may hold what is nobody's business.
	if _, err := os.Stat(filepath.Join(dir, "index")); errors.Is(err, fs.ErrNotExist) && len(o.Uploaders) == 0 {
		return o, usageError{fmt.Sprintf("there is no index in %s, so it is no repository; herdbook publish makes one, and so do uploads, which --upload-token-file allows", dir)}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return o, fmt.Errorf("serve %s: %w", dir, err)
	}
	if f.log {
		o.Log = a.accessLog()
	}
	page, err := web.New(&shown{bucket: bucket.Dir(dir), now: a.Now, sink: o.Sink}, web.Options{Name: f.name, URL: f.url, Now: a.Now})
	if err != nil {
		return o, usageError{"--public-url: " + err.Error()}
	}
	o.Page = page
	return o, nil
}

// credentials reads secrets from where a flag says.
func (a *app) credentials(flag, from string, passwords bool) ([]serve.Credential, error) {
	if from == "" {
		return nil, nil
	}
	var text string
	if name, ok := strings.CutPrefix(from, "env:"); ok {
		if text, ok = a.LookupEnv(name); !ok {
			return nil, usageError{fmt.Sprintf("%s: the environment has no %s", flag, name)}
		}
	} else {
		value, err := readKeyFile(from)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		text = string(value)
	}
	var all []serve.Credential
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		user, password, ok := strings.Cut(line, ":")
		switch {
		case ok && passwords && user != "" && password != "":
			all = append(all, serve.Password(user, password))
		case !ok && !strings.ContainsAny(line, " \t"):
			all = append(all, serve.Token(line))
		default: // without the line, which is a secret
			return nil, usageError{fmt.Sprintf("%s: line %d of %s is wrong: %s", flag, n, from, secretForms[passwords])}
		}
	}
	if len(all) == 0 {
		return nil, usageError{fmt.Sprintf("%s: there is no secret in %s", flag, from)}
	}
	return all, nil
}

var secretForms = map[bool]string{
	true:  "want USER:PASSWORD, or a token without colons and blanks",
	false: "want a token without colons and blanks",
}

// accessLog prints requests in the combined log format of web servers, and how many
// seconds each took. What clients say is quoted.
func (a *app) accessLog() func(serve.Request) {
	var mu sync.Mutex
	return func(r serve.Request) {
		user := "-"
		if r.User != "" {
			user = strings.ReplaceAll(printable(r.User), " ", "_")
		}
		host, _, err := net.SplitHostPort(r.Remote)
		if err != nil {
			host = r.Remote
		}
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(a.Stdout, "%s - %s [%s] %q %d %d \"-\" %q %.3f\n", host, user, r.Time.Format("02/Jan/2006:15:04:05 -0700"),
			r.Method+" "+r.Path+" "+r.Proto, r.Status, r.Sent, r.Agent, r.Duration.Seconds())
	}
}
