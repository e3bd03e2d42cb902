package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"herdbook/internal/program"
	"herdbook/internal/repo"
	"herdbook/internal/signed"
	"herdbook/internal/source"
)

// maxKey bounds a file of public keys, in bytes.
const maxKey = 4 << 20

// ErrNoKey is wrapped by the error of a source that nothing vouches for.
var ErrNoKey = errors.New("nothing says whose signature it must have")

// keys are those that a source may be signed with: nil if it may be unsigned.
func (c *Client) keys(ctx context.Context, s Source) (signed.Keys, error) {
	var wanted []string
	for _, text := range s.Fingerprints {
		fingerprint, err := signed.ParseFingerprint(text)
		if err != nil {
			return nil, err
		}
		wanted = append(wanted, fingerprint)
	}
	switch {
	case len(wanted) == 0 && len(s.Keys) > 0:
		return s.Keys, nil
	case len(wanted) == 0 && s.Unsigned:
		return nil, nil
	case len(wanted) == 0:
		return nil, ErrNoKey
	case len(s.Keys) > 0:
		if keys := signed.Select(s.Keys, wanted); len(keys) > 0 {
			return keys, nil
		}
		return nil, fmt.Errorf("none of the keys that are given has the fingerprint %s: they have %s",
			strings.Join(wanted, " or "), strings.Join(signed.Fingerprints(s.Keys), ", "))
	}
	return c.keysByName(ctx, s, wanted)
}

// keysByName looks for keys by their fingerprints: the user's come first, since they
// can be known to be revoked, then the one beside the index, which the fingerprint
// proves to be the one that is meant.
func (c *Client) keysByName(ctx context.Context, s Source, fingerprints []string) (signed.Keys, error) {
	export := c.Export
	if export == nil {
		export = exportKeys
	}
	text, exportErr := export(ctx, fingerprints)
	if exportErr == nil {
		keys, err := readKeys(text, fingerprints)
		if err == nil {
			return keys, nil
		}
		exportErr = fmt.Errorf("the keyring of gpg: %w", err)
	}
	m := c.memory(s, nil)
	text, err := c.keyBeside(ctx, s, m)
	var keys signed.Keys
	if err == nil {
		keys, err = readKeys(text, fingerprints)
	}
	if err != nil {
		return nil, fmt.Errorf("find key %s: %w; nor is it beside the index: %w; give the key in a file", strings.Join(fingerprints, " or "), exportErr, err)
	}
	return keys, m.keepKey(text)
}

// keyBeside fetches the key that a repository of ours shows, or takes the one that
// was fetched before if nobody answers.
func (c *Client) keyBeside(ctx context.Context, s Source, m *memory) ([]byte, error) {
	err := errOffline
	if !c.Offline {
		address := s.candidates(true)[0]
		var text []byte
		if text, err = c.fetcher(s).Get(ctx, beside(address, repo.KeyName), maxKey); err == nil {
			return text, nil
		}
	}
	if errors.Is(err, source.ErrUnreachable) {
		if text, keptErr := m.keptKey(); keptErr == nil {
			return text, nil
		}
	}
	return nil, err
}

func readKeys(text []byte, fingerprints []string) (signed.Keys, error) {
	if len(text) == 0 {
		return nil, errors.New("it is not there")
	}
	keys, err := signed.ReadKeys(text)
	if err != nil {
		return nil, err
	}
	if keys = signed.Select(keys, fingerprints); len(keys) == 0 {
		return nil, errors.New("it has another fingerprint")
	}
	return keys, nil
}

// exportKeys asks the user's gpg.
func exportKeys(ctx context.Context, fingerprints []string) ([]byte, error) {
	gpg, err := program.Find("gpg")
	if err != nil {
		return nil, err
	}
	args := append([]string{"--batch", "--no-tty", "--export", "--"}, fingerprints...)
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, gpg, args...)
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("ask gpg for the key: %w: %.200s", err, strings.TrimSpace(said.String()))
	}
	return out.Bytes(), nil
}
