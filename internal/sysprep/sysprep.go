// Package sysprep makes a mounted guest fit to be cloned: one file for each
// operation of op.SysprepOperations, each with the reason why it is one. All of them
// work by the primitives of guest.Root, so that no link of a hostile image leads out
// of it, and all can be repeated: a second run changes nothing.
//
// Apply carries out the phase of files. That of the disk has three steps, between which its
// caller unmounts and mounts: BringTools, Change and Follow.
package sysprep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"herdbook/internal/event"
	"herdbook/internal/guest"
	"herdbook/internal/op"
)

// task is one sysprep of one guest.
type task struct {
	guest        *guest.Guest
	root         *guest.Root
	o            *op.Sysprep
	certificates bool // some were removed, of which the store of trust may be made
}

// operations says how each operation of the phase of files is done; script alone,
// which can wait, is done by Apply.
var operations = map[string]func(*task) error{
	"abrt-data": abrtData, "agent-ids": agentIDs, "apt-lists": aptLists, "backup-files": backupFiles, "bash-history": bashHistory,
	"blkid-tab": blkidTab, "bluetooth": bluetooth, "ca-certificates": caCertificates, "chef-client": chefClient, "cloud-init": cloudInit,
	"container-ids": containerIDs, "crash-data": crashData, "cron-spool": cronSpool, "customize": customize,
	"dhcp-client-state": dhcpClientState, "dhcp-server-state": dhcpServerState, "dovecot-data": dovecotData,
	"firewall-rules": firewallRules, "flag-reconfiguration": flagReconfiguration, "hostname": hostname,
	"installer-leftovers": installerLeftovers, "installer-proxy": installerProxy, "ipa-client": ipaClient,
	"kerberos-data": kerberosData, "kerberos-hostkeytab": kerberosHostkeytab, "kubernetes": kubernetes, "logfiles": logfiles,
	"lvm-system-devices": lvmSystemDevices, "machine-id": machineID, "mail-spool": mailSpool, "net-hostname": netHostname,
	"net-hwaddr": netHwaddr, "net-nmconn": netNmconn, "netplan": netplan, "network-manager-state": networkManagerState,
	"pacct-log": pacctLog, "package-manager-cache": packageManagerCache, "pam-data": pamData, "passwd-backups": passwdBackups,
	"puppet": puppet, "puppet-data-log": puppetDataLog, "random-seed": randomSeed, "rh-subscription-manager": rhSubscriptionManager,
	"rhn-systemid": rhnSystemid, "rpm-db": rpmDB, "salt-minion": saltMinion, "samba-db-log": sambaDBLog,
	"shell-histories": shellHistories, "smolt-uuid": smoltUUID, "snapd": snapd, "ssh-hostkeys": sshHostkeys, "ssh-userdir": sshUserdir,
	"sssd-db-log": sssdDBLog, "storage-ids": storageIDs, "systemd-credential": systemdCredential, "tmp-files": tmpFiles,
	"udev-persistent-net": udevPersistentNet, "user-account": userAccount, "utmp": utmp, "yum-uuid": yumUUID, "zsh-history": zshHistory,
}

// Apply carries out the operations of o that work on files, in their order, and lets
// the guest renew what hangs on them. The guest must be as it is on its disk, not
// prepared for commands, since /tmp and /run are of interest; where commands are to be
// run, it is prepared for that time.
func Apply(ctx context.Context, g *guest.Guest, o *op.Sysprep) error {
	t := &task{guest: g, root: g.Root, o: o}
	for _, operation := range o.Selected() {
		if operation.Phase != op.SysprepFiles {
			continue
		}
		g.Sink.Emit(event.Event{Kind: event.Phase, Text: "sysprep " + operation.Name})
		if err := t.perform(ctx, operation.Name); err != nil {
			return fmt.Errorf("sysprep %s: %w", operation.Name, err)
		}
	}
	if err := t.renewTrust(ctx); err != nil {
		return fmt.Errorf("sysprep: renew the trusted certificates: %w", err)
	}
	return nil
}

func (t *task) perform(ctx context.Context, name string) error {
	if name == "script" {
		return script(ctx, t)
	}
	do, ok := operations[name]
	if !ok {
		return errors.New("no way to carry it out")
	}
	return do(t)
}

// withCommands makes the guest fit for commands while fn runs.
func (t *task) withCommands(fn func() error) error {
	restore, err := guest.Prepare(t.root, "")
	if err != nil {
		return err
	}
	return errors.Join(fn(), restore())
}

// notice tells the user of a choice.
func (t *task) notice(text string) { t.guest.Sink.Emit(event.Event{Kind: event.Notice, Text: text}) }

// dropLines removes the lines that begin with one of the words, blanks before it
// aside, from the files that a pattern matches.
func (t *task) dropLines(pattern string, words ...string) error {
	names, err := t.root.Glob(pattern)
	if err != nil {
		return err
	}
	for _, name := range names {
		err := t.root.EditLines(name, func(line string) (string, bool) {
			return line, !slices.ContainsFunc(words, func(word string) bool { return strings.HasPrefix(strings.TrimLeft(line, " \t"), word) })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// emptied removes what the patterns match, but leaves the regular files that the
// first of them does, empty: their programs do not make them.
func (t *task) emptied(kept string, patterns ...string) error {
	keep, err := t.root.Glob(kept)
	if err != nil {
		return err
	}
	keep = slices.DeleteFunc(keep, func(name string) bool { return !t.root.IsFile(name) })
	for _, name := range keep {
		if err := t.root.Truncate(name); err != nil {
			return err
		}
	}
	for _, pattern := range patterns {
		names, err := t.root.Glob(pattern)
		if err != nil {
			return err
		}
		for _, name := range names {
			if slices.Contains(keep, name) {
				continue
			}
			if err := t.root.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	return nil
}
