package disk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ErrNoQEMUImg says that qemu-img, or qemu-io of the same package, is not installed.
var ErrNoQEMUImg = errors.New("qemu-img is not installed: apt-get install qemu-utils")

// qemuImg runs qemu-img; it is killed when ctx ends.
func qemuImg(ctx context.Context, args ...string) ([]byte, error) {
	var out bytes.Buffer
	err := qemuImgTo(ctx, &out, args...)
	return out.Bytes(), err
}

// qemuImgTo is qemuImg with its output written to out.
func qemuImgTo(ctx context.Context, out io.Writer, args ...string) error {
	err := runQEMU(ctx, "qemu-img", nil, out, args...)
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrNoQEMUImg) {
		return fmt.Errorf("qemu-img %s: %w", args[0], err)
	}
	return err
}

// runQEMU runs one of QEMU's tools, which gets input from in and writes its output to
// out; in an error stands what it said of that.
func runQEMU(ctx context.Context, tool string, in io.Reader, out io.Writer, args ...string) error {
	path, err := exec.LookPath(tool)
	if err != nil {
		return ErrNoQEMUImg
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"} // where secrets may be
	cmd.WaitDelay = 5 * time.Second
	var said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &said
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
	}
	return nil
}

// node names an image with its format in QEMU's JSON syntax, in which no
// character of a path has a meaning. One that is alone has no backing file,
// whatever its header says.
func node(path string, format Format, alone bool) (string, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	options := map[string]any{
		"driver": format,
		"file":   map[string]any{"driver": "file", "filename": absolute},
	}
	if alone {
		options["backing"] = nil
	}
	text, err := json.Marshal(options)
	return "json:" + string(text), err
}

// CreateOverlay makes an empty qcow2 image at path that stands on backing, whose
// name is recorded as given: a relative one counts from path's directory. It
// costs milliseconds, whatever the size of backing. If size is 0 it is that of
// backing.
func CreateOverlay(ctx context.Context, path, backing string, format Format, size int64) error {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("create overlay %s: %w", path, err)
	}
	args := []string{"create", "-q", "-f", "qcow2", "-b", backing, "-F", string(format), absolute}
	if size > 0 {
		args = append(args, fmt.Sprint(size))
	}
	if _, err := qemuImg(ctx, args...); err != nil {
		return fmt.Errorf("create overlay %s on %s: %w", path, backing, err)
	}
	return nil
}

// Create makes an empty qcow2 image of size bytes at path.
func Create(ctx context.Context, path string, size int64) error {
	absolute, err := filepath.Abs(path)
	if err == nil {
		_, err = qemuImg(ctx, "create", "-q", "-f", "qcow2", absolute, fmt.Sprint(size))
	}
	if err != nil {
		return fmt.Errorf("create disk image %s: %w", path, err)
	}
	return nil
}

// Resize makes the disk in a raw or qcow2 image larger: size is in bytes and a
// multiple of 512. What is new reads as zeros. Of the same size it stays as it is.
func Resize(ctx context.Context, path string, format Format, size int64) error {
	if err := resize(ctx, path, format, size); err != nil {
		return fmt.Errorf("resize disk image %s: %w", path, err)
	}
	return nil
}

func resize(ctx context.Context, path string, format Format, size int64) (err error) {
	if format != Raw && format != QCOW2 {
		return fmt.Errorf("format %q is none that herdbook resizes: raw, qcow2", format)
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	before, err := sizeAlone(file, format)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	switch {
	case size < before:
		return fmt.Errorf("%d bytes are less than the %d that it has: what lies behind them would be lost", size, before)
	case size%sector != 0:
		return fmt.Errorf("%d bytes are no whole number of sectors", size)
	case size == before:
		return nil
	}
	absolute, err := filepath.Abs(path)
	if err == nil {
		_, err = qemuImg(ctx, "resize", "-q", "-f", string(format), absolute, fmt.Sprint(size))
	}
	return err
}

// FlattenOptions say how an image is written anew. The zero value makes a qcow2
// image without compression out of a qcow2 image.
type FlattenOptions struct {
	SourceFormat Format // default qcow2
	Format       Format // default qcow2
	Subformat    string // as Subformat returns it; "" for the format's usual one
	Compress     bool   // qcow2 only; with zstd
	Zlib         bool   // compressed with zlib, which QEMU before 5.1 can read, too
	Ordered      bool   // equal bytes of equal content, at the cost of a second processor

	// Progress gets what qemu-img says while it writes, again and again: the percentage
	// that is done, as in "(12.34/100%)". Nil hears nothing.
	Progress io.Writer
}

// Flatten copies what an image and all behind it hold into one file at dst,
// which appears whole or not at all. Zeros become holes.
func Flatten(ctx context.Context, src, dst string, o FlattenOptions) error {
	if o.SourceFormat == "" {
		o.SourceFormat = QCOW2
	}
	if o.Format == "" {
		o.Format = QCOW2
	}
	from, err := node(src, o.SourceFormat, false)
	if err != nil {
		return fmt.Errorf("flatten %s: %w", src, err)
	}
	var options []string
	if o.Compress {
		options = []string{"-c", "-o", "compression_type=zstd"}
		if o.Zlib {
			options[2] = "compression_type=zlib"
		}
	}
	if o.Subformat != "" {
		options = []string{"-o", "subformat=" + o.Subformat}
	}
	// Out of order is faster where clusters are compressed.
	options = append(options, "-m", "16")
	if !o.Ordered {
		options = append(options, "-W")
	}
	if o.Progress != nil {
		options = append(options, "-p")
	}
	if err := convert(ctx, conversion{from, dst, o.Format, o.Progress}, options...); err != nil {
		return fmt.Errorf("flatten %s: %w", src, err)
	}
	return nil
}

// Commit writes what a qcow2 overlay holds into the image that it stands on,
// which grows if the overlay is larger. Zeros become holes where that image can
// have them. Done twice it changes nothing more.
func Commit(ctx context.Context, overlay string) error {
	from, err := node(overlay, QCOW2, false)
	if err == nil {
		// -d: the overlay is thrown away as a whole, and need not be emptied.
		_, err = qemuImg(ctx, "commit", "-q", "-d", from)
	}
	if err != nil {
		return fmt.Errorf("commit %s: %w", overlay, err)
	}
	return nil
}

// Subformat is the variant of a VMDK image, such as streamOptimized, as qemu-img
// takes it; "" for other formats.
func Subformat(ctx context.Context, path string, format Format) (string, error) {
	if format != VMDK {
		return "", nil
	}
	at, err := node(path, format, false)
	if err != nil {
		return "", err
	}
	out, err := qemuImg(ctx, "info", "--output=json", at)
	if err != nil {
		return "", fmt.Errorf("look at disk image %s: %w", path, err)
	}
	var said struct {
		Specific struct {
			Data struct {
				CreateType string `json:"create-type"`
			} `json:"data"`
		} `json:"format-specific"`
	}
	if err := json.Unmarshal(out, &said); err != nil {
		return "", fmt.Errorf("look at disk image %s: %w", path, err)
	}
	return said.Specific.Data.CreateType, nil
}

// conversion is what is written anew.
type conversion struct {
	from   string // a node
	dst    string
	format Format
	said   io.Writer // gets qemu-img's output; nil for nobody
}

// convert writes what a node holds to a new file, which appears whole or not at all.
// Without -W the same disk makes the same bytes.
func convert(ctx context.Context, c conversion, options ...string) error {
	to, err := filepath.Abs(c.dst)
	if err != nil {
		return err
	}
	to += ".tmp"
	args := append([]string{"convert", "-O", string(c.format)}, options...)
	if err := qemuImgTo(ctx, c.said, append(args, c.from, to)...); err != nil {
		return errors.Join(err, removeIfThere(to))
	}
	if err := os.Rename(to, c.dst); err != nil {
		return errors.Join(err, removeIfThere(to))
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
