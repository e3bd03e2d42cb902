package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"herdbook/internal/repo"
)

// The load of the servers: one client with a large file, and many with the index of
// a repository of some size.
const (
	largeName = "images/large-0123456789ab.qcow2"
	largeSize = 1 << 30 // bytes
	revisions = 100
	clients   = 1000
	rounds    = 5 // of each server, by turns
)

// serveRows are those of the server of a repository, beside nginx as Debian ships it.
var serveRows = []func(context.Context, *bench) (row, error){serveLarge, serveIndex, serveMemory}

// site is one repository behind both servers, on the same machine and its cores.
type site struct {
	ours, peer *server
}

// server is one that runs.
type server struct {
	address string
	cmd     *exec.Cmd
	said    bytes.Buffer
	ended   chan error
}

// servers starts both once, for all rows.
func (b *bench) servers(ctx context.Context) (*site, error) {
	if b.site != nil {
		return b.site, nil
	}
	dir := filepath.Join(b.dir, "served")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(filepath.Join(dir, "images"), 0o755)); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, repo.IndexName), repo.Format(index(revisions)), 0o644); err != nil {
		return nil, err
	}
	f, err := os.Create(filepath.Join(dir, largeName))
	if err != nil {
		return nil, err
	}
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{}), largeSize)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	s := &site{}
	b.site = s
	if s.peer, err = b.nginx(ctx, dir); err != nil {
		return nil, err
	}
	s.ours = &server{cmd: exec.CommandContext(ctx, b.herdbook, "repo", "serve", dir, "--listen", "127.0.0.1:0")}
	out, err := s.ours.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.ours.start(); err != nil {
		return nil, err
	}
	line := make([]byte, 4096)
	n, err := out.Read(line)
	go s.ours.wait()
	_, at, ok := strings.Cut(strings.TrimSpace(string(line[:n])), " at ")
	if err != nil || !ok {
		return nil, fmt.Errorf("herdbook repo serve said %q: %w", line[:n], err)
	}
	s.ours.address = at
	return s, nil
}

func (s *server) start() error {
	s.cmd.Stderr = &s.said
	s.ended = make(chan error, 1)
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.cmd, err)
	}
	return nil
}

func (s *server) wait() { s.ended <- s.cmd.Wait() }

// end ends a server that was started; both of them do so well when they are
// interrupted.
func (s *server) end() error {
	if s == nil || s.cmd.Process == nil {
		return nil
	}
	_ = s.cmd.Process.Signal(os.Interrupt) // it may have ended
	if err := <-s.ended; err != nil {
		return fmt.Errorf("%s: %w\n%s", s.cmd, err, &s.said)
	}
	return nil
}

// end ends what the rows have started.
func (b *bench) end() (err error) {
	for _, end := range slices.Backward(b.ends) {
		err = errors.Join(err, end())
	}
	if b.site != nil {
		err = errors.Join(err, b.site.ours.end(), b.site.peer.end())
	}
	return err
}

// index is one of as many revisions of as many images, each with its usual files.
func index(n int) repo.Index {
	x := repo.Index{Header: repo.Header{Version: n, Signed: time.Unix(1_700_000_000, 0).UTC()}}
	source := rand.New(rand.NewChaCha8([32]byte{}))
	hex := func(digits int) string {
		text := ""
		for len(text) < digits {
			text += fmt.Sprintf("%016x", source.Uint64())
		}
		return text[:digits]
	}
	for i := range n {
		name := fmt.Sprintf("image-%03d", i)
		e := repo.Entry{
			ID: name, Name: "Debian 12 with what it needs for " + name, OSInfo: "debian12", Arch: "x86_64", Format: "qcow2",
			Size: 4 << 30, CompressedSize: 400 << 20, Expand: "/dev/sda1", Notes: "Debian 12, packages, a web server, sysprep.",
		}
		e.Revision = 1
		e.Image, e.Layer, e.Published, e.Channels = name, hex(64), x.Signed, []string{repo.Stable}
		for _, kind := range []string{"qcow2", "xz", "box.libvirt", "kernel", "initrd", "manifest"} {
			a := repo.Artefact{Kind: kind, Size: 400 << 20, SHA256: hex(64), SHA512: hex(128)}
			a.File = fmt.Sprintf("%s/%s-%s.%s", repo.ImageDir, name, a.SHA512[:12], kind)
			e.Artefacts = append(e.Artefacts, a)
		}
		e.File, e.Checksum = e.Artefacts[0].File, e.Artefacts[0].SHA512
		x.Entries = append(x.Entries, e)
	}
	return x
}

// nginx starts nginx with Debian's settings and one server block. Neither server
// writes a line for each request.
func (b *bench) nginx(ctx context.Context, dir string) (*server, error) {
	text, err := os.ReadFile("/etc/nginx/nginx.conf")
	if err != nil {
		return nil, fmt.Errorf("the settings of nginx: %w", err)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	home := filepath.Join(b.dir, "nginx")
	if err := errors.Join(os.RemoveAll(home), os.MkdirAll(home, 0o755)); err != nil {
		return nil, err
	}
	block := fmt.Sprintf("server { listen 127.0.0.1:%d; root %s; access_log off; }", port, dir)
	settings := strings.NewReplacer(
		"user www-data;", "user root;", // it must get at the checkout
		"/run/nginx.pid", filepath.Join(home, "pid"), "/var/log/nginx", home, "include /etc/nginx/sites-enabled/*;", block,
	).Replace(string(text))
	if !strings.Contains(settings, block) {
		return nil, errors.New("the settings of nginx are not Debian's: nothing includes sites-enabled")
	}
	path := filepath.Join(home, "nginx.conf")
	if err := os.WriteFile(path, []byte(settings), 0o644); err != nil {
		return nil, err
	}
	s := &server{address: fmt.Sprintf("http://127.0.0.1:%d/", port)}
	s.cmd = exec.CommandContext(ctx, "nginx", "-c", path, "-g", "daemon off;")
	if err := s.start(); err != nil {
		return nil, err
	}
	go s.wait()
	for {
		response, err := http.Get(s.address + repo.IndexName)
		if err == nil {
			return s, response.Body.Close()
		}
		select {
		case err := <-s.ended:
			return nil, fmt.Errorf("nginx: %w\n%s", err, &s.said)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	at, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("a listener without a port")
	}
	return at.Port, l.Close()
}

// rates measures both servers by turns and gives the medians.
func (b *bench) rates(ctx context.Context, measure func(context.Context, string) (float64, error)) (ours, peer float64, err error) {
	s, err := b.servers(ctx)
	if err != nil {
		return 0, 0, err
	}
	var all [2][]float64
	for range rounds {
		for i, each := range []*server{s.ours, s.peer} {
			rate, err := measure(ctx, each.address)
			if err != nil {
				return 0, 0, err
			}
			all[i] = append(all[i], rate)
		}
	}
	slices.Sort(all[0])
	slices.Sort(all[1])
	return all[0][rounds/2], all[1][rounds/2], nil
}

// rate is a row whose goal is at least a part of the peer's rate.
func rate(what, unit string, ours, peer, least float64) row {
	ratio := ours / peer
	return row{what: what, text: fmt.Sprintf("%.0f %s\t%.0f %s nginx\t%.2f\t≥ %.2f\t%s", ours, unit, peer, unit, ratio, least, verdict(ratio >= least))}
}

func serveLarge(ctx context.Context, b *bench) (row, error) {
	buffer := make([]byte, 1<<20)
	ours, peer, err := b.rates(ctx, func(ctx context.Context, address string) (float64, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address+largeName, nil)
		if err != nil {
			return 0, err
		}
		start := time.Now()
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, err
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, response.Body, buffer)
		if err := errors.Join(err, response.Body.Close()); err != nil || n != largeSize {
			return 0, fmt.Errorf("%s of %s: %d bytes: %w", largeName, address, n, err)
		}
		return float64(n) / (1 << 20) / time.Since(start).Seconds(), nil
	})
	return rate("repo serve: a file of 1 GiB", "MiB/s", ours, peer, 0.9), err
}

var (
	perSecond = regexp.MustCompile(`(?m)^Requests/sec:\s+([0-9.]+)$`)
	mistakes  = regexp.MustCompile(`(?m)^\s*Non-2xx.*$`)
)

func serveIndex(ctx context.Context, b *bench) (row, error) {
	ours, peer, err := b.rates(ctx, func(ctx context.Context, address string) (float64, error) {
		out, err := exec.CommandContext(ctx, "wrk", "-t2", "-c"+strconv.Itoa(clients), "-d5s", address+repo.IndexName).CombinedOutput()
		m := perSecond.FindSubmatch(out)
		if err != nil || m == nil || mistakes.Match(out) {
			return 0, fmt.Errorf("wrk at %s: %w\n%s", address, err, out)
		}
		return strconv.ParseFloat(string(m[1]), 64)
	})
	size := len(repo.Format(index(revisions))) >> 10
	return rate(fmt.Sprintf("repo serve: %d clients, index of %d KiB", clients, size), "requests/s", ours, peer, 0.9), err
}

// serveMemory is what the server had at most while the rows before it ran.
func serveMemory(ctx context.Context, b *bench) (row, error) {
	s, err := b.servers(ctx)
	if err != nil {
		return row{}, err
	}
	peak := highWater(s.ours.cmd.Process.Pid)
	return limit("repo serve: memory under that load", fmt.Sprintf("%d MiB", peak>>20), "< 64 MiB", peak > 0 && peak < 64<<20), nil
}
