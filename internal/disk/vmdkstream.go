package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/klauspost/compress/zlib"
	"golang.org/x/sync/errgroup"
)

// What a stream is made of: grains of 64 KiB, tables of 512 of them, and a header that
// leaves room for the descriptor.
const (
	streamGrain    = 128 // sectors
	streamPerTable = 512
	streamOverhead = 128 // sectors before the first grain
	streamText     = 20  // sectors of the descriptor
	streamVersion  = 3
	streamLevel    = 6

	markerEnd       = 0
	markerTable     = 1
	markerDirectory = 2
	markerFooter    = 3
)

// Stream says what stands in a streamOptimized VMDK besides the disk.
type Stream struct {
	ID       [16]byte         // of the image, for VirtualBox; its first four bytes tell two contents apart
	Progress func(done int64) // is told how far on the disk it is; nil hears nothing
}

// WriteStream writes the disk of an image as a streamOptimized VMDK: a file that is
// written from its start to its end, with grains compressed one by one and none for
// zeros (VMware's Virtual Disk Format 5.0). Equal disks make equal bytes.
func WriteStream(ctx context.Context, w io.Writer, image *Image, s Stream) error {
	if err := writeStream(ctx, w, image, s); err != nil {
		return fmt.Errorf("write a vmdk: %w", err)
	}
	return nil
}

func writeStream(ctx context.Context, w io.Writer, image *Image, s Stream) error {
	if image.size%sector != 0 {
		return fmt.Errorf("a disk of %d bytes is no whole number of sectors", image.size)
	}
	out := &stream{Writer: w}
	header := streamHeader(image.size, vmdkFooter)
	front := make([]byte, streamOverhead*sector)
	copy(front, header)
	copy(front[sector:(1+streamText)*sector], streamDescriptor(image.size, s.ID))
	if _, err := out.Write(front); err != nil {
		return err
	}
	const span = streamGrain * sector * streamPerTable
	directory := make([]byte, (image.size+span-1)/span*4)
	for i := range len(directory) / 4 {
		grains, err := packGrains(ctx, image, Range{int64(i) * span, min(span, image.size-int64(i)*span)})
		if err != nil {
			return err
		}
		at, err := out.table(int64(i), grains)
		if err != nil {
			return err
		}
		binary.LittleEndian.PutUint32(directory[4*i:], at)
		if s.Progress != nil {
			s.Progress(min(image.size, int64(i+1)*span))
		}
	}
	at, err := out.marked(markerDirectory, directory)
	if err != nil {
		return err
	}
	if _, err := out.marked(markerFooter, streamHeader(image.size, uint64(at))); err != nil {
		return err
	}
	_, err = out.Write(streamMarker(markerEnd, 0))
	return err
}

// packGrains compresses the grains of a range, side by side; those that are zeros stay
// nil.
func packGrains(ctx context.Context, image *Image, in Range) ([][]byte, error) {
	const size = streamGrain * sector
	var has [streamPerTable]bool
	err := maybeData(image.ReaderAt, in, func(r Range) error {
		for i := (r.Start - in.Start) / size; i*size < r.Start+r.Size-in.Start; i++ {
			has[i] = true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	grains := make([][]byte, streamPerTable)
	jobs := make(chan int, streamPerTable)
	for i := range grains {
		if has[i] {
			jobs <- i
		}
	}
	close(jobs)
	g, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			p := &packer{plain: make([]byte, size)}
			for i := range jobs {
				if err := context.Cause(ctx); err != nil {
					return err
				}
				at := in.Start + int64(i)*size
				grain, err := p.pack(image, Range{at, min(size, in.Start+in.Size-at)})
				if err != nil {
					return err
				}
				grains[i] = grain
			}
			return nil
		})
	}
	return grains, g.Wait()
}

// packer compresses grains, one behind the other.
type packer struct {
	plain []byte
	z     *zlib.Writer
}

var zeroGrain [streamGrain * sector]byte

// pack returns a grain with its marker; nil if it is zeros. The last one of a disk is
// filled up with them.
func (p *packer) pack(image *Image, r Range) (_ []byte, err error) {
	clear(p.plain[r.Size:])
	if err := readFull(image, p.plain[:r.Size], r.Start); err != nil {
		return nil, err
	}
	if bytes.Equal(p.plain, zeroGrain[:]) {
		return nil, nil
	}
	var packed bytes.Buffer
	packed.Write(make([]byte, vmdkMarker))
	if p.z == nil {
		if p.z, err = zlib.NewWriterLevel(&packed, streamLevel); err != nil {
			return nil, err
		}
	} else {
		p.z.Reset(&packed)
	}
	if _, err := p.z.Write(p.plain); err != nil {
		return nil, err
	}
	if err := p.z.Close(); err != nil {
		return nil, err
	}
	length := packed.Len()
	packed.Write(make([]byte, -length&(sector-1)))
	grain := packed.Bytes()
	binary.LittleEndian.PutUint64(grain, uint64(r.Start/sector))
	binary.LittleEndian.PutUint32(grain[8:], uint32(length-vmdkMarker))
	return grain, nil
}

// stream counts the sectors that are written.
type stream struct {
	io.Writer
	sectors uint64
}

// Write implements io.Writer; it is given whole sectors.
func (s *stream) Write(p []byte) (int, error) {
	n, err := s.Writer.Write(p)
	s.sectors += uint64(n) / sector
	return n, err
}

// table writes grains and behind them their table, and returns its sector: 0 if there is
// none, as all are zeros.
func (s *stream) table(index int64, grains [][]byte) (uint32, error) {
	var table [streamPerTable * 4]byte
	used := false
	for i, grain := range grains {
		if grain == nil {
			continue
		}
		at, err := s.here()
		if err != nil {
			return 0, err
		}
		if _, err := s.Write(grain); err != nil {
			return 0, err
		}
		binary.LittleEndian.PutUint32(table[4*i:], at)
		used = true
	}
	if !used {
		return 0, nil
	}
	return s.marked(markerTable, table[:])
}

// here is the sector that comes next. Tables have 32 bits for it.
func (s *stream) here() (uint32, error) {
	if s.sectors >= 1<<32 {
		return 0, fmt.Errorf("it has more than 2 TiB when it is compressed, which its tables cannot say")
	}
	return uint32(s.sectors), nil
}

// marked writes what is no grain, behind its marker, and returns its sector.
func (s *stream) marked(kind uint32, content []byte) (uint32, error) {
	content = append(content, make([]byte, -len(content)&(sector-1))...)
	if _, err := s.Write(streamMarker(kind, uint64(len(content)/sector))); err != nil {
		return 0, err
	}
	at, err := s.here()
	if err == nil {
		_, err = s.Write(content)
	}
	return at, err
}

func streamMarker(kind uint32, sectors uint64) []byte {
	m := make([]byte, sector)
	binary.LittleEndian.PutUint64(m, sectors)
	binary.LittleEndian.PutUint32(m[12:], kind)
	return m
}

// streamHeader is the header, or as a footer that which says where the directory is.
func streamHeader(size int64, directory uint64) []byte {
	h, le := make([]byte, sector), binary.LittleEndian
	copy(h, vmdkMagic)
	le.PutUint32(h[4:], streamVersion)
	le.PutUint32(h[8:], 1|vmdkPacked|vmdkMarkers) // 1: vmdkNewline is there to be checked
	le.PutUint64(h[12:], uint64(size/sector))
	le.PutUint64(h[20:], streamGrain)
	le.PutUint64(h[28:], vmdkDescriptorAt/sector)
	le.PutUint64(h[36:], streamText)
	le.PutUint32(h[44:], streamPerTable)
	le.PutUint64(h[56:], directory)
	le.PutUint64(h[64:], streamOverhead)
	copy(h[73:], vmdkNewline)
	le.PutUint16(h[77:], vmdkDeflate)
	return h
}

// streamDescriptor is the text in the file. The name of the extent, the file itself, is
// read by nobody.
func streamDescriptor(size int64, id [16]byte) string {
	none := "00000000-0000-0000-0000-000000000000"
	lines := []string{
		"# Disk DescriptorFile",
		"version=1",
		"CID=" + hex.EncodeToString(id[:4]),
		"parentCID=" + vmdkNoParent,
		`createType="streamOptimized"`,
		"",
		fmt.Sprintf(`RW %d SPARSE "disk.vmdk"`, size/sector),
		"",
		"#DDB",
		`ddb.virtualHWVersion = "4"`,
		`ddb.adapterType = "ide"`,
		fmt.Sprintf(`ddb.geometry.cylinders = "%d"`, min(size/sector/16/63, 16383)),
		`ddb.geometry.heads = "16"`,
		`ddb.geometry.sectors = "63"`,
		fmt.Sprintf(`ddb.uuid.image = "%x-%x-%x-%x-%x"`, id[:4], id[4:6], id[6:8], id[8:10], id[10:]),
		fmt.Sprintf(`ddb.uuid.modification = "%s"`, none),
		fmt.Sprintf(`ddb.uuid.parent = "%s"`, none),
		fmt.Sprintf(`ddb.uuid.parentmodification = "%s"`, none),
	}
	return strings.Join(lines, "\n") + "\n"
}
