package definition

import (
	"fmt"
	"path"
	"path/filepath"

	"github.com/hashicorp/hcl/v2"
)

// modules lists the modules of Puppet below a directory, to which a link may lead. Links
// in it must stay in it: the guest has nothing else of the host.
func (l *loader) modules(dir string, at hcl.Range) []Input {
	if l.blind {
		return nil
	}
	real, err := filepath.EvalSymlinks(l.path(dir))
	if err != nil {
		l.fault(at, "Modules cannot be read", fmt.Sprintf("Read %s: %v.", dir, unwrapPath(err)))
		return nil
	}
	list := l.inputs(real, at)
	if len(list) > 0 && (list[0].Digest != "" || list[0].Link != "") {
		l.fault(at, "Modules cannot be read", fmt.Sprintf("%s is no directory.", dir))
	}
	for _, i := range list {
		if i.Link != "" && (path.IsAbs(i.Link) || !filepath.IsLocal(path.Join(path.Dir(i.Name), i.Link))) {
			l.fault(at, "Link leads out of the modules", fmt.Sprintf("%s in %s leads to %s, which the guest has not.", i.Name, dir, i.Link))
		}
	}
	return list
}
