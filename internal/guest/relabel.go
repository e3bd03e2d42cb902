package guest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"herdbook/internal/event"
	"herdbook/internal/op"
)

const (
	selinuxConfig = "/etc/selinux/config"
	autorelabel   = "/.autorelabel"
)

// unlabelled are the directories in which a machine has file systems of its own.
var unlabelled = []string{"/dev", "/proc", "/run", "/sys", "/tmp"}

// relabel labels all files as the guest's policy has them.
func (g *Guest) relabel(ctx context.Context, o *op.Relabel) error {
	contexts, err := g.fileContexts()
	if err != nil {
		return fmt.Errorf("relabel: %w", err)
	}
	if contexts == "" {
		g.notice("the guest has no SELinux, or has it disabled: there is nothing to be relabelled")
		return nil
	}
	reason := "as asked"
	if !o.AtBoot {
		// -m: the kernel that it runs on may have no SELinux, and would have setfiles
		// leave out every file system. -F: the whole label, not the type alone.
		args := []string{"setfiles", "-m", "-F"}
		for _, dir := range append(unlabelled, o.Exclude...) {
			args = append(args, "-e", dir)
		}
		err := g.must(ctx, append(args, contexts, "/")...)
		if err == nil || ctx.Err() != nil {
			return err
		}
		reason = "as it could not be done now: " + err.Error()
	}
	if err := g.Root.WriteFile(autorelabel, nil, owned(0o644), false); err != nil {
		return fmt.Errorf("relabel: %w", err)
	}
	g.notice("the guest will relabel its files at its next boot, " + reason)
	return nil
}

func (g *Guest) notice(text string) { g.Sink.Emit(event.Event{Kind: event.Notice, Text: text}) }

// fileContexts finds the policy's list of labels; "" if the guest has no SELinux.
func (g *Guest) fileContexts() (string, error) {
	text, err := g.Root.ReadFile(selinuxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	settings := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if name, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), "="); ok {
			settings[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	policy := settings["SELINUXTYPE"]
	if strings.EqualFold(settings["SELINUX"], "disabled") || policy == "" {
		return "", nil
	}
	if policy != path.Base(policy) || policy == ".." {
		return "", fmt.Errorf("%s names the policy %q, which is no name", selinuxConfig, policy)
	}
	if !g.Root.Exists("/usr/sbin/load_policy") && !g.Root.Exists("/sbin/load_policy") {
		return "", nil
	}
	return path.Join("/etc/selinux", policy, "contexts/files/file_contexts"), nil
}
