package sysprep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"herdbook/internal/event"
	"herdbook/internal/guest"
	"herdbook/internal/uuid"
)

// following are the files that may say by what identifier something is found: tables of
// mounts, settings of boot loaders and of what makes initrds, what they made of them, and
// LVM's own copies.
var following = []string{
	"/etc/{fstab,crypttab,cmdline,kernel/cmdline,kernel/entry-token,mkinitcpio.conf,extlinux.conf,lilo.conf,uswsusp.conf,suspend.conf}",
	"/etc/default/{grub,grub.d/*.cfg,u-boot,zipl}", "/etc/grub.d/*", "/etc/sysconfig/{bootloader,kernel}",
	"/etc/{cmdline.d,dracut.conf.d}/*.conf", "/etc/dracut.conf", "/etc/initramfs-tools/{initramfs.conf,conf.d/*}",
	"/etc/systemd/system/*.{mount,automount,swap}", "/etc/lvm/{backup,archive}/*", "/etc/lvm/devices/system.devices",
	"/boot/{grub,grub2}/{grub.cfg,custom.cfg,user.cfg,grubenv,menu.lst,grub.conf,device.map}", "/boot/{grub,grub2}/*/load.cfg",
	"/boot/{,efi/}loader/{loader.conf,entries/*.conf}", "/efi/loader/{loader.conf,entries/*.conf}",
	"/boot/{,syslinux/,extlinux/}*.{conf,cfg}", "/boot/{,firmware/,efi/}cmdline.txt",
	"/{boot,boot/efi,efi}/{EFI,efi}/*/{*.cfg,*.CFG,grubenv}",
	// GRUB's core for UEFI has its prefix and its first commands in it, uncompressed, and a
	// unified kernel its command line. What is signed has none.
	"/boot/{grub,grub2}/*-efi/{core,grub}.efi", "/{boot,boot/efi,efi}/{EFI,efi}/*/*.{efi,EFI}",
}

// maxFollowing bounds a file that is rewritten, in bytes: a unified kernel has its initrd
// in it.
const maxFollowing = 512 << 20

// initrdMakers make every initrd of the guest anew; one of them is there.
var initrdMakers = [][]string{
	{"update-initramfs", "-u", "-k", "all"},
	{"dracut", "--regenerate-all", "--force"},
	{"mkinitcpio", "-P"},
}

// Follow makes a mounted guest, whose disk has its new identifiers already, find everything by
// them: it rewrites files, and where an initrd or GRUB's core for BIOS may say an old one, the guest
// makes it anew. The guest must be as it is on its disk; bootOnLVM says that /boot lies
// on a logical volume.
func Follow(ctx context.Context, g *guest.Guest, list []uuid.Change, bootOnLVM bool) error {
	r := uuid.NewReplacement(list)
	core, err := coreIsStale(g.Root, list, r, bootOnLVM)
	if err != nil {
		return err
	}
	initrds, err := initrdsAreStale(g.Root, list)
	if err != nil {
		return fmt.Errorf("sysprep: look into the initrds: %w", err)
	}
	for _, pattern := range following {
		names, err := g.Root.Glob(pattern)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := rewrite(g, r, name); err != nil {
				return fmt.Errorf("sysprep: write new identifiers into %s: %w", name, err)
			}
		}
	}
	commands, err := bootCommands(g, initrds, core)
	if err != nil || len(commands) == 0 {
		return err
	}
	restore, err := guest.Prepare(g.Root, "")
	if err != nil {
		return err
	}
	return errors.Join(runAll(ctx, g, commands), restore())
}

// rewrite replaces the identifiers in a file.
func rewrite(g *guest.Guest, r uuid.Replacement, name string) error {
	if !g.Root.IsFile(name) {
		return nil // of a link, the file that it means is among the others
	}
	f, err := g.Root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFollowing+1))
	if err != nil {
		return err
	}
	if len(content) > maxFollowing {
		return fmt.Errorf("it has more than %d bytes", maxFollowing)
	}
	content, any := r.In(content)
	if !any {
		return nil
	}
	g.Sink.Emit(event.Event{Kind: event.Log, Stream: event.Agent, Text: "new identifiers in " + name})
	return g.Root.Rewrite(name, content)
}

// coreIsStale tells whether GRUB's core for BIOS finds /boot by an old identifier. It is
// compressed where it was put; but what it was told lies beside its modules, unless that is the
// name of a logical volume, which GRUB makes of the identifiers of LVM.
func coreIsStale(root *guest.Root, list []uuid.Change, r uuid.Replacement, bootOnLVM bool) (bool, error) {
	cores, err := root.Glob("/boot/{grub,grub2}/i386-pc/core.img")
	if err != nil || len(cores) == 0 {
		return false, err
	}
	for _, id := range list {
		if id.Type.OfLVM() && bootOnLVM {
			return true, nil
		}
	}
	told, err := root.Glob("/boot/{grub,grub2}/i386-pc/load.cfg")
	if err != nil {
		return false, err
	}
	for _, name := range told {
		text, err := root.ReadFile(name)
		if err != nil {
			return false, err
		}
		if _, stale := r.In(text); stale {
			return true, nil
		}
	}
	return false, nil
}

// bootCommands are the commands of the guest that must be run.
func bootCommands(g *guest.Guest, initrds, core bool) ([][]string, error) {
	var commands [][]string
	has := func(program string) bool {
		found, err := g.Root.Glob("/{usr/sbin,sbin,usr/bin,bin}/" + program)
		return err == nil && len(found) > 0
	}
	if initrds {
		i := slices.IndexFunc(initrdMakers, func(maker []string) bool { return has(maker[0]) })
		if i < 0 {
			return nil, errors.New("sysprep: an initrd may find file systems by their old UUIDs, and the guest has none of update-initramfs, dracut and mkinitcpio to make it anew")
		}
		commands = append(commands, initrdMakers[i])
	}
	if !core {
		return commands, nil
	}
	for _, program := range []string{"grub-install", "grub2-install"} {
		if has(program) {
			return append(commands, []string{program, "--target=i386-pc", "--no-floppy", g.Device}), nil
		}
	}
	return nil, errors.New("sysprep: GRUB finds /boot by an identifier that is changed, and the guest has no grub-install to tell it: add its package, such as grub-pc-bin and grub2-common")
}

func runAll(ctx context.Context, g *guest.Guest, commands [][]string) error {
	for _, args := range commands {
		g.Sink.Emit(event.Event{Kind: event.Phase, Text: "sysprep " + path.Base(args[0])})
		status, err := g.Runner.Run(ctx, guest.Command{Args: args})
		if err == nil && status != 0 {
			err = fmt.Errorf("it ended with status %d", status)
		}
		if err != nil {
			return fmt.Errorf("sysprep: run %s: %w", strings.Join(args, " "), err)
		}
	}
	return nil
}
