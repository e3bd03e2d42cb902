package guest

import "herdbook/internal/op"

// delete removes what the paths match.
func (g *Guest) delete(o *op.Delete) error { return g.Root.RemoveGlob(o.Paths...) }
