// Bench measures herdbook beside the tools that it succeeds, in the same run
// and on the same image: the starter's "web". It prints ratios, since seconds
// of another machine say little.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"text/tabwriter"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run prepares the image, measures every row and prints them.
func run(ctx context.Context) error {
	dir, err := filepath.Abs(filepath.Join(".test", "bench"))
	if err != nil {
		return err
	}
	b, err := prepare(ctx, dir)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "accelerator: %s\n\n", b.accelerator)
	fmt.Fprintln(w, "WHAT\tHERDBOOK\tPEER\tRATIO\tGOAL\t")
	for _, measure := range rows {
		r, err := measure(ctx, b)
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "measured:", r.what)
		fmt.Fprintln(w, r)
	}
	return w.Flush()
}
