// Bench measures herdbook beside the tools that it succeeds, in the same run
// and on the same image: the starter's "web". It prints ratios, since seconds
// of another machine say little. With the argument "image" it measures the commands
// that work on any disk image; with "repo" what concerns repositories: publishing, reading
// and serving; with "boot" steps in the booted image; with "puppet" roles by a real Puppet server; with "targets"
// the artefacts of an image; with "installer" the real Debian installer, which takes a quarter of an
// hour under emulation.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"text/tabwriter"
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, flag.Arg(0))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures what was asked for and prints it.
func run(ctx context.Context, what string) (err error) {
	b, err := newBench()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.end()) }()
	measures := rows
	switch what {
	case "":
		err = b.starter(ctx)
	case "image":
		measures, err = imageRows, b.starter(ctx)
	case "boot":
		measures, err = bootRows, b.starter(ctx)
	case "installer":
		measures = installerRows
	case "puppet":
		measures, err = puppetRows, b.puppet(ctx)
	case "repo":
		measures, err = slices.Concat(publishRows, pullRows, serveRows), b.starter(ctx)
	case "targets":
		measures, err = targetRows, b.targets(ctx)
	default:
		err = fmt.Errorf("there is nothing called %q to measure: say image, repo, boot, puppet, targets, installer, or nothing", what)
	}
	if err != nil {
		return err
	}
	var measured []row
	for _, measure := range measures {
		r, err := measure(ctx, b)
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "measured:", strings.ReplaceAll(r.String(), "\t", "  "))
		measured = append(measured, r)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if b.accelerator != "" { // without machines there is none
		fmt.Fprintf(w, "accelerator: %s\n\n", b.accelerator)
	}
	fmt.Fprintln(w, "WHAT\tHERDBOOK\tPEER\tRATIO\tGOAL\t")
	for _, r := range measured {
		fmt.Fprintln(w, r)
	}
	return w.Flush()
}
