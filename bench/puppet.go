package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/machine"
	"herdbook/internal/peer"
)

// puppetRows are those of a role that a real Puppet server gives an image, on a base
// with an agent that both sides have in their caches: as a step, against the script of
// old.
var puppetRows = []func(context.Context, *bench) (row, error){roleOnce, roleTwice, roleParts, roleOfOldParts}

// role is what was measured of making an image with a role.
type role struct {
	once, twice ran           // of herdbook: without and with the run that must change nothing
	old         time.Duration // of all programs of old
	parts       []string      // what each of them took
}

const (
	defaultMemory = 1024 // MiB, of herdbook's machines
	maxProcessors = 4    // of one of them
)

// puppetDefinition takes the server's port. The images differ in nothing but their names
// and the second run.
const puppetDefinition = `repository "local" {
  path     = "repo"
  unsigned = true
  formats  = ["xz"]
}

image "base" {
  disk { size = "2G" }
  bootstrap "mmdebstrap" {
    suite   = "bookworm"
    mirror  = "http://deb.debian.org/debian"
    include = ["linux-image-cloud-amd64", "puppet-agent"]
  }
  step "run" "network" {
    script = <<-EOT
      printf '[Match]\nType=ether\n[Network]\nDHCP=ipv4\n' > /etc/systemd/network/lan.network
      systemctl enable systemd-networkd
      echo nameserver 10.0.2.3 > /etc/resolv.conf
    EOT
  }
  sysprep {}
  publish "local" {}
}

image "once" {
  from = image.base
  step "puppet" "role" {
    server         = "puppet.example.org"
    port           = %[1]d
    hosts          = { "puppet.example.org" = "10.0.2.2" }
    host_ports     = [%[1]d]
    environment    = "production"
    certname       = "once.example.org"
    config_timeout = "2m"
    idempotent     = false
  }
  sysprep {}
}

image "twice" {
  from = image.base
  step "puppet" "role" {
    server         = "puppet.example.org"
    port           = %[1]d
    hosts          = { "puppet.example.org" = "10.0.2.2" }
    host_ports     = [%[1]d]
    environment    = "production"
    certname       = "twice.example.org"
    config_timeout = "2m"
  }
  sysprep {}
}
`

// firstboot takes the server's port. virt-builder starts it when a network may be there.
// configtimeout has these two names since Puppet 5.
const firstboot = `#!/bin/sh
/lib/systemd/systemd-networkd-wait-online
echo 10.0.2.2 puppet.example.org >> /etc/hosts
puppet agent --onetime --no-daemonize --no-splay --verbose --certname old.example.org --server puppet.example.org --serverport %d --environment production --http_connect_timeout 120 --http_read_timeout 120
poweroff
`

// puppet starts a server, and builds and publishes the base.
func (b *bench) puppet(ctx context.Context) error {
	if err := errors.Join(os.RemoveAll(b.dir), os.MkdirAll(b.dir, 0o755)); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "puppetserver-") // a checkout may be closed to the server
	if err != nil {
		return err
	}
	b.ends = append(b.ends, func() error { return os.RemoveAll(dir) })
	fmt.Fprintln(os.Stderr, "starting a Puppet server …")
	if b.puppetServer, err = peer.StartPuppetServer(ctx, dir, peer.Puppet{}); err != nil {
		return err
	}
	b.ends = append(b.ends, func() error { b.puppetServer.Kill(); return nil })
	port := b.puppetServer.Port
	err = errors.Join(
		os.WriteFile(filepath.Join(b.dir, "herdbook.hcl"), fmt.Appendf(nil, puppetDefinition, port), 0o644),
		os.WriteFile(filepath.Join(b.dir, "firstboot"), fmt.Appendf(nil, firstboot, port), 0o755))
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "building and publishing the base …")
	if b.building, err = b.run(ctx, "build", "base"); err != nil {
		return err
	}
	// The server compiles its own program at its first catalogue.
	own := filepath.Join(b.dir, "agent")
	args := []string{"agent", "--onetime", "--no-daemonize", "--noop", "--no-usecacheonfailure", "--server", "localhost", "--serverport", strconv.Itoa(port), "--certname", "first.example.org"}
	for _, name := range []string{"conf", "var", "ssl", "run", "log", "public"} {
		args = append(args, "--"+name+"dir", filepath.Join(own, name))
	}
	_, err = b.peer(ctx, "puppet", args...)
	return err
}

// roles makes the images of both sides. It is done once.
func (b *bench) roles(ctx context.Context) (*role, error) {
	if b.role != nil {
		return b.role, nil
	}
	r := &role{}
	var err error
	if r.once, err = b.runRole(ctx, "once"); err != nil {
		return nil, err
	}
	b.accelerator = r.once.accelerator() // of this build: it has had machines for certain
	if err = b.roleOfOld(ctx, r); err != nil {
		return nil, err
	}
	if r.twice, err = b.runRole(ctx, "twice"); err != nil {
		return nil, err
	}
	b.role = r
	return r, nil
}

// runRole is the build of one image, in whose layer Puppet's work must be.
func (b *bench) runRole(ctx context.Context, image string) (ran, error) {
	r, err := b.run(ctx, "build", image)
	if err != nil {
		return r, err
	}
	last := r.events[len(r.events)-1]
	for _, e := range r.events {
		if e.Layer != "" {
			last = e
		}
	}
	return r, b.hasRole(ctx, filepath.Join(b.dir, "store", "layers", last.Layer, "disk.qcow2"), image+".example.org")
}

// hasRole reads out of an image what the server's catalogue for a node has made there.
func (b *bench) hasRole(ctx context.Context, image, node string) error {
	for path, want := range map[string]string{
		"/etc/herd-hello.conf": "# " + node + "\n",
		"/etc/systemd/system/multi-user.target.wants/herd-hello.service": "[Service]",
	} {
		out, err := exec.CommandContext(ctx, b.herdbook, "cat", "--backing-files", image, path).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			return fmt.Errorf("%s has no role by Puppet: %s: %w\n%s", image, path, err, out)
		}
	}
	return nil
}

// roleOfOld makes the image by the programs that herdbook succeeds.
func (b *bench) roleOfOld(ctx context.Context, r *role) error {
	image := filepath.Join(b.dir, "old.img")
	builder := []string{
		"VIRT_BUILDER_DIRS=" + b.dir, "XDG_CONFIG_HOME=" + b.dir, "virt-builder", "--no-check-signature", "--source", "file://" + filepath.Join(b.dir, "repo", "index"),
		"--cache", filepath.Join(b.dir, "virt-builder-cache"),
	}
	if _, err := b.peer(ctx, "env", append(builder, "--cache-all-templates")...); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		do   func() (time.Duration, error)
	}{
		{"virt-builder", func() (time.Duration, error) {
			return b.peer(ctx, "env", append(builder, "--output", image, "--no-network", "--firstboot", filepath.Join(b.dir, "firstboot"), "base")...)
		}},
		{"boot", func() (time.Duration, error) { return b.bootOnce(ctx, image) }},
		{"virt-sysprep", func() (time.Duration, error) { return b.peer(ctx, "virt-sysprep", "--format", "raw", "-a", image) }},
		{"virt-sparsify", func() (time.Duration, error) {
			return b.peer(ctx, "virt-sparsify", "--in-place", "--format", "raw", image)
		}},
	} {
		took, err := part.do()
		if err != nil {
			return err
		}
		r.old += took
		r.parts = append(r.parts, fmt.Sprintf("%s %.1f s", part.name, took.Seconds()))
	}
	return b.hasRole(ctx, image, "old.example.org")
}

// bootOnce lets an image run until it powers off, in a machine as herdbook's are,
// but for its network, which is QEMU's own.
func (b *bench) bootOnce(ctx context.Context, image string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, byHandLimit)
	defer cancel()
	spec := machine.Spec{
		Accelerator: machine.TCG, Memory: defaultMemory, CPUs: min(runtime.NumCPU(), maxProcessors), NoFlush: true,
		Disks: []machine.Disk{{Path: image, Format: disk.Raw, Discard: true}},
	}
	if b.accelerator == "kvm" {
		spec.Accelerator = machine.KVM
	}
	args := append(machine.Args(spec), "-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile=")
	for i, arg := range args {
		args[i] = outside.Replace(arg)
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	cmd.Dir = b.dir
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%s did not power off; its console is %s: %w\n%s", image, filepath.Join(b.dir, "console.log"), err, out)
	}
	return time.Since(start), nil
}

const wayOfOld = "virt-builder --firstboot, boot, virt-sysprep, trim"

func roleOnce(ctx context.Context, b *bench) (row, error) {
	r, err := b.roles(ctx)
	if err != nil {
		return row{}, err
	}
	return row{what: "a role by Puppet on a cached base, one run of the agent", ours: r.once.elapsed, peer: r.old, peerName: wayOfOld, most: 0.6}, nil
}

func roleTwice(ctx context.Context, b *bench) (row, error) {
	r, err := b.roles(ctx)
	if err != nil {
		return row{}, err
	}
	return row{what: "the same, and the run that must change nothing", ours: r.twice.elapsed, peer: r.old, peerName: wayOfOld + ", without that run", most: 0.6}, nil
}

// roleParts tells what takes the time.
func roleParts(ctx context.Context, b *bench) (row, error) {
	r, err := b.roles(ctx)
	if err != nil {
		return row{}, err
	}
	var parts []string
	var last event.Event
	for _, e := range r.twice.events {
		if e.Kind != event.Phase && e.Kind != event.StepDone {
			continue
		}
		if took := e.Time.Sub(last.Time); last.Kind == event.Phase && took >= time.Second {
			parts = append(parts, fmt.Sprintf("%s %.1f s", last.Text, took.Seconds()))
		}
		last = e
	}
	return row{what: "its parts of a second and more", text: strings.Join(parts, ", ")}, nil
}

func roleOfOldParts(ctx context.Context, b *bench) (row, error) {
	r, err := b.roles(ctx)
	if err != nil {
		return row{}, err
	}
	return row{what: "those of the old way", text: strings.Join(r.parts, ", ")}, nil
}
