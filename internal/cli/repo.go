package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"herdbook/internal/bucket"
	"herdbook/internal/definition"
	"herdbook/internal/delivery"
	"herdbook/internal/repo"
	"herdbook/internal/repo/client"
	"herdbook/internal/repo/publish"
	"herdbook/internal/signed"
)

func (a *app) repoCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "repo",
		Short: "Look after a repository: channels, revisions, signatures",
		Long: "Look after a repository: one of the definition (--repo NAME; not needed if there is only one), or any other by its directory\n" +
			"or address (--repo DIRECTORY, s3://BUCKET/PREFIX?endpoint=… or https://…).",
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	var f repoFlags
	flags := c.PersistentFlags()
	flags.StringVar(&f.repo, "repo", "", "the repository: its name in the definition, its directory or its address")
	flags.StringVar(&f.signingKey, "signing-key", "", "OpenPGP secret key of a repository that is given by its address: a file, or gpg:FINGERPRINT")
	flags.StringVar(&f.key, "key", "", "file with the public key that must have signed it")
	flags.BoolVar(&f.unsigned, "unsigned", false, "it has no signature, on purpose")
	c.AddCommand(
		a.repoListCommand(&f), a.repoVerifyCommand(&f), a.repoPromoteCommand(&f), a.repoRollbackCommand(&f),
		a.repoPruneCommand(&f), a.repoRenewCommand(&f), a.repoDiffCommand(&f), a.repoServeCommand(),
	)
	return c
}

// repoFlags say which repository a command works on.
type repoFlags struct {
	repo, signingKey, key string
	unsigned              bool
}

// open opens the repository that the flags name.
func (f *repoFlags) open(a *app) (publish.Repository, error) {
	if !isAddress(f.repo) {
		def, err := a.parse()
		switch {
		case err == nil:
			r, err := f.choose(def)
			if err != nil {
				return publish.Repository{}, err
			}
			return delivery.Open(r, a.Now())
		case f.repo == "" && errors.Is(err, definition.ErrNone):
			return publish.Repository{}, usageError{fmt.Sprintf("which repository? There is no definition %s; give --repo DIRECTORY or an address", a.file)}
		case f.repo == "" || !errors.Is(err, definition.ErrNone):
			return publish.Repository{}, err
		}
	}
	return f.openAddress(a)
}

// isAddress tells an address or a path from the name of a repository.
func isAddress(text string) bool { return strings.ContainsAny(text, "/.") }

// choose picks the repository of a definition.
func (f *repoFlags) choose(def *definition.Definition) (definition.Repository, error) {
	var names []string
	for _, r := range def.Repositories {
		if r.Name == f.repo || f.repo == "" && len(def.Repositories) == 1 {
			return r, nil
		}
		names = append(names, r.Name)
	}
	switch {
	case len(names) == 0:
		return definition.Repository{}, usageError{"the definition has no repository; give --repo DIRECTORY or an address"}
	case f.repo == "":
		return definition.Repository{}, usageError{"which repository? Give --repo: " + strings.Join(names, " or ")}
	}
	return definition.Repository{}, usageError{fmt.Sprintf("the definition has no repository %q but %s; a directory is written as ./%s", f.repo, strings.Join(names, ", "), f.repo)}
}

// openAddress opens a repository that no definition tells of, with the credentials
// of the environment.
func (f *repoFlags) openAddress(a *app) (publish.Repository, error) {
	b, err := bucket.At(f.repo, a.ownCredentials())
	if err != nil {
		return publish.Repository{}, usageError{err.Error()}
	}
	r := publish.Repository{Bucket: b, Address: f.repo, Now: a.Now(), ValidFor: definition.ValidFor}
	switch {
	case f.unsigned:
	case f.signingKey != "":
		text := []byte(f.signingKey)
		if _, ok := signed.GPGKey(f.signingKey); !ok {
			if text, err = os.ReadFile(f.signingKey); err != nil {
				return r, fmt.Errorf("read signing key: %w", err)
			}
		}
		r.Signer, err = signed.NewSigner(text, a.Now())
		return r, err
	case f.key != "":
		r.Keys, err = client.ReadKeyFile(f.key)
		return r, err
	default:
		return r, usageError{fmt.Sprintf("who has signed %s? Give --key FILE (its %s, from somebody you trust), --signing-key FILE to change it, or --unsigned", f.repo, repo.KeyName)}
	}
	return r, nil
}

// ownCredentials are those of the environment.
func (a *app) ownCredentials() bucket.Options {
	env := func(name string) string { value, _ := a.LookupEnv(name); return value }
	return bucket.Options{
		AccessKey: env("AWS_ACCESS_KEY_ID"), SecretKey: bucket.Secret(env("AWS_SECRET_ACCESS_KEY")),
		SessionToken: bucket.Secret(env("AWS_SESSION_TOKEN")), Token: bucket.Secret(env("HERDBOOK_TOKEN")),
	}
}

// selector reads which revision of an image is meant.
func selector(text, arch string) (repo.Selector, error) {
	s, err := repo.ParseSelector(text)
	if err != nil {
		return s, usageError{err.Error()}
	}
	s.Arch = arch
	return s, nil
}
