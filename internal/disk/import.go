package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Import makes a qcow2 image at dst, whole or not at all, of an untrusted image
// in one file. The format is told or, if empty, proved; either way Prove checks
// the image first, so that QEMU is told a driver and has no other file to open.
func Import(ctx context.Context, src string, told Format, dst string) error {
	format, err := proveFile(src, told)
	if err != nil {
		return fmt.Errorf("import disk image %s: %w", src, err)
	}
	from, err := node(src, format, true)
	if err != nil {
		return fmt.Errorf("import disk image %s: %w", src, err)
	}
	if err := convert(ctx, conversion{from: from, dst: dst, format: QCOW2}); err != nil {
		return fmt.Errorf("import disk image %s as %s: %w", src, format, err)
	}
	return nil
}

func proveFile(path string, told Format) (_ Format, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	stat, err := file.Stat()
	if err != nil {
		return "", err
	}
	if !stat.Mode().IsRegular() {
		return "", fmt.Errorf("it is no regular file")
	}
	return Prove(file, stat.Size(), told)
}
