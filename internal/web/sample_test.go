package web

import (
	"context"
	"crypto/sha512"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

var serve = flag.String("serve", "", "show the sample repository at this address, to be looked at, instead of testing")

func TestMain(m *testing.M) {
	flag.Parse()
	if *serve == "" {
		os.Exit(m.Run())
	}
	h, err := New(sample(), Options{Now: func() time.Time { return noon }})
	if err == nil {
		err = http.ListenAndServe(*serve, h)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// fake is a repository in memory.
type fake struct {
	repository *Repository
	manifests  map[string]Manifest
	err        error
}

func (f *fake) Repository(context.Context) (*Repository, error) { return f.repository, f.err }

func (f *fake) Manifest(ctx context.Context, file string) (Manifest, error) {
	m, ok := f.manifests[file]
	if !ok {
		return m, fmt.Errorf("open %s: %w", file, fs.ErrNotExist)
	}
	return m, ctx.Err()
}

// hostile is text that would like to be more.
const hostile = `<script>alert(1)</script>"'><img src=x onerror=alert(1)> javascript:alert(1) ${x} $(reboot) ` + "\u202egnp.exe\x1b[2J"

// base is the packages of a small system, some in two versions of the sample.
func base(newer bool) []Package {
	names := strings.Fields(`adduser apt base-files base-passwd bash bsdutils ca-certificates cloud-guest-utils coreutils cron curl dash dbus debconf debianutils
		diffutils dpkg e2fsprogs findutils gcc-12-base gpgv grep grub-pc gzip hostname ifupdown init iproute2 iputils-ping kmod less libacl1 libapt-pkg6.0
		libattr1 libaudit1 libblkid1 libbz2-1.0 libc-bin libc6 libcap2 libcrypt1 libcurl4 libdb5.3 libgcc-s1 libgcrypt20 libgmp10 libgnutls30 liblz4-1 liblzma5
		libmount1 libncursesw6 libnettle8 libp11-kit0 libpam-modules libpam0g libpcre2-8-0 libseccomp2 libselinux1 libssl3 libstdc++6 libsystemd0 libtinfo6
		libudev1 libuuid1 libzstd1 linux-image-cloud-amd64 login logrotate mawk mount nano ncurses-base netbase openssh-client openssh-server openssl passwd
		perl-base procps python3 qemu-guest-agent rsyslog sed sensible-utils sudo systemd systemd-sysv sysvinit-utils tar tzdata udev util-linux vim-tiny zlib1g`)
	var list []Package
	for i, name := range names {
		p := Package{name, fmt.Sprintf("%d.%d.%d-%d", 1+i%7, i%23, i%5, 1+i%4), "amd64", int64(40_000 + i*i*2311)}
		if newer && i%9 == 0 {
			p.Version += "+deb12u" + fmt.Sprint(1+i%6)
			p.Size += 4096
		}
		list = append(list, p)
	}
	return list
}

func sum(text string) string { return fmt.Sprintf("%x", sha512.Sum512([]byte(text))) }

// herd collects a repository.
type herd struct{ fake }

// publish adds a revision, in front of those of before.
func (h *herd) publish(r Revision, m Manifest) {
	stem := fmt.Sprintf("images/%s-%s", r.Image, sum(fmt.Sprint(r.Image, r.Arch, r.Number))[:12])
	size := r.Size / 19
	for i, kind := range []string{"qcow2", "xz", "box.libvirt", "kernel", "initrd", "manifest", "box.virtualbox"} {
		file := stem + "." + kind
		if kind == "manifest" {
			file = stem + ".json"
			h.manifests[file] = m
		}
		r.Artefacts = append(r.Artefacts, Artefact{kind, file, size/int64(i*i+1) + int64(r.Number)*12345, sum(file)})
	}
	h.repository.Revisions = append(h.repository.Revisions, r)
}

// pedigree is that of a web server upon a base upon a distribution.
func sampleManifest(newer bool, role ...Package) Manifest {
	packages := base(newer)
	at := noon.AddDate(0, -1, 0)
	step := func(image, step string, took time.Duration, size int64) Layer {
		at = at.Add(6*time.Hour + took)
		return Layer{Digest: "sha256:" + sum(fmt.Sprint(image, step, newer))[:64], Image: image, Step: step, Made: at, Took: took, Size: size, Grown: size * 2}
	}
	install := step("bookworm", `install "preseed"`, 20*time.Minute+18*time.Second, 1_183_842_304)
	install.Digest = "sha256:" + sum("the same")[:64]
	install.Added = packages
	clean := step("bookworm", "sysprep", 3200*time.Millisecond, 41_222_144)
	puppet := step("bookworm-base", `puppet "base"`, 74*time.Second, 212_860_928)
	puppet.Added = []Package{{"puppet-agent", "7.23.0-1+deb12u1", "amd64", 34_000_000}, {"ruby", "1:3.1", "amd64", 41_000}}
	puppet.Removed = []Package{{"nano", "7.2-1+deb12u1", "amd64", 2_838_528}}
	puppet.Changed = []Change{{"openssl", "amd64", "3.0.15-1~deb12u1", "3.0.17-1~deb12u2", 4096}, {"sudo", "amd64", "1.9.13p3-1+deb12u1", "1.9.13p3-1+deb12u2", 0}}
	packagesStep := step("web", `packages "nginx, with all the modules that anybody could want"`, 31*time.Second, 96_468_992)
	packagesStep.Added = role
	clean.Grown = -120 << 20
	seal := step("web", "sysprep", 2900*time.Millisecond, 8_912_896)
	all := append(append([]Package{}, packages...), role...)
	return Manifest{System: "Debian GNU/Linux 12 (bookworm)", Kernels: []string{"6.1.0-41-cloud-amd64"}, Layers: []Layer{install, clean, puppet, packagesStep, seal}, Packages: all}
}

// sample is a repository like those that people have.
func sample() *fake {
	h := herd{fake{&Repository{
		Version: 37, Signed: noon.Add(-20 * time.Hour), Expires: noon.AddDate(0, 3, 0), Fingerprint: "8f3b6a1c09d24e57b6a1c09d24e578f3b6a1c09d",
	}, map[string]Manifest{}, nil}}
	nginx := []Package{{"nginx", "1.22.1-9+deb12u2", "amd64", 1_328_128}, {"nginx-common", "1.22.1-9+deb12u2", "all", 233_472}}
	day := func(n int) time.Time { return noon.AddDate(0, 0, -n) }
	h.publish(Revision{Image: "bookworm", ID: "bookworm", Title: "Debian 12", System: "debian12", Arch: "x86_64", Number: 4, Size: 4 << 30, Published: day(31),
		Notes: "Debian 12 as its own installer makes it, generalised.", Channels: []Channel{{"stable", day(30), true}}}, sampleManifest(false))
	h.publish(Revision{Image: "ceph-osd", ID: "ceph-osd-r1", Title: "Ceph OSD", System: "debian12", Arch: "x86_64", Number: 1, Size: 8 << 30, Published: day(2),
		Channels: []Channel{{"testing", day(2), true}}}, sampleManifest(true, Package{"ceph-osd", "16.2.15+ds-0+deb12u1", "amd64", 61_000_000}))
	for n := 8; n > 0; n-- {
		r := Revision{Image: "web", ID: fmt.Sprintf("web-r%d", n), Title: "Web server on Debian 12", System: "debian12", Arch: "x86_64", Number: n, Size: 6 << 30, Published: day(9 * (9 - n)),
			Notes: "nginx with the modules of the house.\n\nPedigree: bookworm 4, bookworm-base 6.\n  Ports: 80, 443."}
		switch n {
		case 8:
			r.Channels = []Channel{{"testing", day(8), true}}
		case 7:
			r.ID, r.Channels = "web", []Channel{{"stable", day(3), true}, {"testing", day(17), false}}
		case 5:
			r.Channels = []Channel{{"previous_quarter", day(3), true}, {"stable", day(30), false}}
		}
		h.publish(r, sampleManifest(n > 7, nginx[:1+n%2]...))
	}
	h.publish(Revision{Image: "web", ID: "web", Title: "Web server on Debian 12", System: "debian12", Arch: "aarch64", Number: 2, Size: 6 << 30, Published: day(5),
		Channels: []Channel{{"stable", day(4), true}}}, sampleManifest(true, nginx...))
	return &h.fake
}

// cruel is a repository in which every text is hostile.
func cruel() *fake {
	h := herd{fake{&Repository{Fingerprint: hostile, Version: 1}, map[string]Manifest{}, nil}}
	long := strings.Repeat("very-long-", 30)
	for n := 2; n > 0; n-- {
		p := []Package{{hostile, fmt.Sprint(hostile, n), hostile, 1 << 40}, {long, long, "", 1}}
		h.publish(Revision{Image: hostile, ID: hostile, Title: hostile + long, System: hostile, Arch: hostile, Number: n, Size: 1 << 62, Notes: hostile + "\n" + long,
			Published: noon, Channels: []Channel{{hostile, noon, true}}},
			Manifest{hostile, []string{hostile, long}, []Layer{{Digest: hostile, Image: hostile, Step: hostile, Size: -5, Added: p, Removed: p, Changed: []Change{{hostile, hostile, long, hostile, 1}}}, {Image: long, Step: long, Size: 1 << 62, Unknown: true}}, p})
	}
	h.publish(Revision{Image: long, ID: long, Arch: long, Number: 1 << 30}, Manifest{})
	return &h.fake
}
