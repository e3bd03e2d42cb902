// Herdbook builds machine images for cattle, once, and delivers them to every
// place where they boot.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"herdbook/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	status := cli.Main(ctx, cli.World{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, LookupEnv: os.LookupEnv, Now: time.Now,
	})
	stop()
	os.Exit(status)
}
