package ramroot

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"herdbook/internal/digest"
)

// Limits of a download.
const (
	fetchTries = 5
	fetchPause = 2 * time.Second
	stallTime  = 30 * time.Second // without a byte
	headroom   = 32 << 20         // bytes of memory that a download leaves
)

// fetched is the directory, of memory, that the root is fetched to.
const fetched = "/fetched"

// fetchRoot fetches the root to a file and checks it.
func fetchRoot(c Config) (path string, err error) {
	m, err := readMemory()
	if err != nil {
		return "", err
	}
	if m.Available < c.Size+headroom {
		return "", fmt.Errorf("the root has %d MiB, and of this machine's %d MiB of memory %d are free: give it more", c.Size>>20, m.Total>>20, m.Available>>20)
	}
	offline, err := online()
	if err != nil {
		return "", fmt.Errorf("go online to fetch the root: %w", err)
	}
	defer offline()
	if err := os.MkdirAll(fetched, 0o700); err != nil {
		return "", err
	}
	if err := unix.Mount("tmpfs", fetched, "tmpfs", 0, "size=100%,mode=0700"); err != nil {
		return "", fmt.Errorf("make room for the root: %w", err)
	}
	path = fetched + "/root.squashfs"
	return path, fetch(http.DefaultClient, c, path, fetchPause)
}

// fetch downloads the root, going on where a connection was lost.
func fetch(client *http.Client, c Config, path string, pause time.Duration) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := digest.NewWriter(f)
	for try := range fetchTries {
		if try > 0 {
			time.Sleep(pause) // for a server that starts anew
		}
		var final bool
		if final, err = fetchRest(client, c, sum); err == nil || final {
			break
		}
		say(fmt.Sprintf("herdbook: try %d of %d to fetch the root: %v", try+1, fetchTries, err))
	}
	if err != nil {
		return fmt.Errorf("fetch the root: %w", err)
	}
	return c.verify(sum.Digest(), sum.Size(), "the root at "+c.URL)
}

// fetchRest fetches what is not there yet. Final says that another try is of no use.
func fetchRest(client *http.Client, c Config, sum *digest.Writer) (final bool, err error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	stalled := time.AfterFunc(stallTime, func() { cancel(fmt.Errorf("no byte came for %v", stallTime)) })
	defer stalled.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return true, err
	}
	if sum.Size() > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", sum.Size()))
	}
	answer, err := client.Do(request)
	if untrusted := (*tls.CertificateVerificationError)(nil); errors.As(err, &untrusted) {
		return true, fmt.Errorf("%w: this initrd trusts whom the image trusted when it was exported, by this machine's clock: add the server's CA to the image, or set the clock", err)
	}
	if err != nil {
		return false, errors.Join(err, context.Cause(ctx))
	}
	defer answer.Body.Close()
	switch {
	case answer.StatusCode == http.StatusOK:
		// A server that knows no ranges begins anew; what is there is passed over.
		if _, err := io.CopyN(io.Discard, answer.Body, sum.Size()); err != nil {
			return false, err
		}
	case answer.StatusCode != http.StatusPartialContent || sum.Size() == 0:
		return answer.StatusCode < 500, fmt.Errorf("%s: %s", c.URL, answer.Status)
	}
	// A byte more than there should be is enough to tell that it is another file.
	body := alive{io.LimitReader(answer.Body, c.Size+1-sum.Size()), stalled}
	if _, err := io.Copy(sum, body); err != nil {
		return false, errors.Join(err, context.Cause(ctx))
	}
	return false, nil
}

// alive puts the end off that comes when nothing is read.
type alive struct {
	io.Reader
	end *time.Timer
}

// Read implements io.Reader.
func (a alive) Read(p []byte) (int, error) {
	a.end.Reset(stallTime)
	return a.Reader.Read(p)
}
