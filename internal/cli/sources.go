package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"herdbook/internal/bucket"
	"herdbook/internal/definition"
	"herdbook/internal/event"
	"herdbook/internal/op"
	"herdbook/internal/repo/client"
	"herdbook/internal/signed"
	"herdbook/internal/source"
	"herdbook/internal/store"
)

// sourceFlags say which repositories are read, and what they are trusted for.
type sourceFlags struct {
	repos, urls, fingerprints, keys []string

	unsigned, offline, acceptOld bool

	credentials bucket.Options // for what --repo names by its address; no flags tell them
}

func (f *sourceFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringArrayVar(&f.repos, "repo", nil, "read this repository: NAME of the definition, directory, or URL (default those of virt-builder's repos.d); may be repeated")
	flags.StringArrayVar(&f.urls, "source", nil, "read the repository with this index, or with an index below this address, by its URL; may be repeated")
	flags.StringArrayVar(&f.fingerprints, "fingerprint", nil, "fingerprint of the key that must have signed it: one for all, or one for each --repo and --source, in their order")
	flags.StringArrayVar(&f.keys, "key", nil, "file with the public key that must have signed it: one for all, or one for each, as --fingerprint")
	flags.BoolVar(&f.unsigned, "unsigned", false, "take what has neither a key nor a fingerprint without a signature")
	flags.BoolVar(&f.offline, "offline", false, "fetch nothing: use what is kept from earlier")
	flags.BoolVar(&f.acceptOld, "accept-old", false, "take an index that is expired, or older than one that was seen, and go by it from now on")
}

// sources are the repositories that the flags name.
func (a *app) sources(f sourceFlags, sink event.Sink) ([]client.Source, error) {
	var list []client.Source
	for _, name := range f.repos {
		s, err := a.repository(name)
		if err != nil {
			return nil, err
		}
		if s.Name == "" {
			s.Bucket = f.credentials
			if strings.HasPrefix(s.URL, "https://") { // and not in clear
				s.Token = op.Secret{Value: string(f.credentials.Token), Name: "HERDBOOK_TOKEN"}
			}
		}
		list = append(list, s)
	}
	for _, address := range f.urls {
		list = append(list, client.Source{URL: address})
	}
	if len(list) == 0 {
		if list = client.Origins(a.LookupEnv, sink); len(list) == 0 {
			return nil, usageError{"no repository is known here: name one with --repo or --source, or in /etc/virt-builder/repos.d"}
		}
	}
	for what, given := range map[string][]string{"key": f.keys, "fingerprint": f.fingerprints} {
		if n := len(given); n > 1 && n != len(list) {
			return nil, usageError{fmt.Sprintf("--%s is given %d times for %s: give it once, or once for each", what, n, repositories(len(list)))}
		}
	}
	for i := range list {
		if err := f.trust(&list[i], i); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func repositories(n int) string {
	if n == 1 {
		return "one repository"
	}
	return fmt.Sprintf("%d repositories", n)
}

// trust says of the source of a number what it is trusted for.
func (f *sourceFlags) trust(s *client.Source, i int) error {
	if n := len(f.keys); n > 0 {
		s.KeyFile = f.keys[min(i, n-1)]
		keys, err := client.ReadKeyFile(s.KeyFile)
		if err != nil {
			return err
		}
		s.Keys = keys
	}
	if n := len(f.fingerprints); n > 0 {
		fingerprint, err := signed.ParseFingerprint(f.fingerprints[min(i, n-1)])
		if err != nil {
			return usageError{"--fingerprint: " + err.Error()}
		}
		s.Fingerprints = []string{fingerprint}
	}
	s.Unsigned = s.Unsigned || f.unsigned
	return nil
}

// repository is what --repo names: a directory or a URL by its looks, else one of the
// definition.
func (a *app) repository(name string) (client.Source, error) {
	if strings.Contains(name, "://") {
		return client.Source{URL: name}, nil
	}
	if !strings.ContainsRune(name, filepath.Separator) && name != "." && name != ".." {
		s, err := a.definedRepository(name)
		if !errors.Is(err, errNoRepository) && !errors.Is(err, definition.ErrNone) {
			return s, err
		}
	}
	if stat, err := os.Stat(name); err != nil || !stat.IsDir() {
		return client.Source{}, usageError{fmt.Sprintf("--repo=%s: the definition has no such repository, and there is no such directory", name)}
	}
	absolute, err := filepath.Abs(name)
	return client.Source{URL: (&url.URL{Scheme: "file", Path: absolute}).String()}, err
}

// errNoRepository says that the definition has no repository of a name.
var errNoRepository = errors.New("no such repository")

// definedRepository is one of the definition, trusted for the keys that it names.
func (a *app) definedRepository(name string) (client.Source, error) {
	def, err := a.parse()
	if err != nil {
		return client.Source{}, err
	}
	for _, r := range def.Repositories {
		if r.Name == name {
			return a.sourceOf(r)
		}
	}
	return client.Source{}, errNoRepository
}

// sourceOf is how a repository of the definition is read, trusted for the keys that
// it names.
func (a *app) sourceOf(r definition.Repository) (client.Source, error) {
	s := client.Source{
		Name: r.Name, URL: r.Address(), Streams: r.Format == "simplestreams", Fingerprints: r.Fingerprints, Unsigned: r.Unsigned, Token: r.Token,
		Bucket: bucket.Options{AccessKey: r.AccessKey.Value, SecretKey: bucket.Secret(r.SecretKey.Value), SessionToken: bucket.Secret(r.SessionToken.Value)},
	}
	var err error
	switch {
	case r.PublicKey != "":
		s.Keys, err = signed.ReadKeys([]byte(r.PublicKey))
	case r.SigningKey.Value != "":
		var signer *signed.Signer
		if signer, err = signed.NewSigner([]byte(r.SigningKey.Value), a.Now()); err == nil {
			s.Keys = signer.Keys()
		}
	}
	if err != nil {
		return s, fmt.Errorf("repository %q: %w", r.Name, err)
	}
	return s, nil
}

// reader reads repositories for a command.
func (a *app) reader(s *store.Store, f sourceFlags, sink event.Sink) *client.Client {
	return &client.Client{
		Dir: s.RepositoriesDir(), Media: source.Media{Dir: s.MediaDir(), Fetcher: source.Fetcher{Sink: sink}}, Now: a.Now(),
		Offline: f.offline, AcceptOld: f.acceptOld, Sink: sink,
	}
}

// catalogues reads the repositories that the flags name.
func (a *app) catalogues(ctx context.Context, c *client.Client, f sourceFlags) (client.Catalogues, error) {
	sources, err := a.sources(f, c.Sink)
	if err != nil {
		return nil, err
	}
	all, err := c.ReadAll(ctx, sources)
	if errors.Is(err, client.ErrNoKey) {
		err = errors.Join(err, errors.New("the key comes from whoever runs the repository: give it with --key, or its --fingerprint; --unsigned goes without"))
	}
	return all, err
}
