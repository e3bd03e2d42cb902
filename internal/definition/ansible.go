package definition

import (
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"herdbook/internal/op"
)

// versionControl are the directories of a playbook's tree that are left out: what is in
// them changes with every commit and is used by no playbook.
var versionControl = []string{".git", ".hg", ".svn"}

// playbook lists and digests the tree of a playbook, which must be whole: nothing of it
// leads out.
func (l *loader) playbook(o *op.Ansible, at hcl.Range) []Input {
	if l.blind {
		return nil
	}
	top := l.path(o.Tree())
	if top == filepath.Clean(l.dir) {
		l.fault(at, "Directory is too large", "All that lies in the directory of a playbook is a part of the step, and this is the directory of the definition itself. Put the playbook with its roles into one of its own, or name it with directory.")
		return nil
	}
	list, err := readTree(top, func(e fs.DirEntry) bool { return slices.Contains(versionControl, e.Name()) })
	if err != nil {
		l.fault(at, "Directory cannot be read", strings.ReplaceAll(err.Error(), l.dir+"/", "")+".")
		return nil
	}
	playbook, _ := o.InTree()
	if !slices.ContainsFunc(list, func(i Input) bool { return i.Name == playbook && !strings.HasPrefix(i.Mode, "d") }) {
		l.fault(at, "Playbook is not there", fmt.Sprintf("There is no file %s.", o.Playbook))
	}
	for _, i := range list {
		if i.Link == "" {
			continue
		}
		if target := path.Join(path.Dir(i.Name), i.Link); path.IsAbs(i.Link) || target == ".." || strings.HasPrefix(target, "../") {
			l.fault(at, "Link leads out", fmt.Sprintf("%s leads to %s, which is not a part of %s: put what it means there.", path.Join(o.Tree(), i.Name), i.Link, o.Tree()))
		}
	}
	return list
}
