package sysprep

import (
	"context"
	"errors"
	"fmt"

	"herdbook/internal/guest"
	"herdbook/internal/op"
)

// script runs the scripts of the user, in the guest.
func script(ctx context.Context, t *task) error {
	if len(t.o.Scripts) == 0 {
		return nil
	}
	if t.guest.Runner == nil {
		return errors.New("nothing can be run in this guest")
	}
	return t.withCommands(func() error {
		for i, text := range t.o.Scripts {
			if err := guest.Apply(ctx, t.guest, &op.Run{Script: text}); err != nil {
				return fmt.Errorf("script %d: %w", i+1, err)
			}
		}
		return nil
	})
}
