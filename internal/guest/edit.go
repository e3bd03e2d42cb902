package guest

import (
	"context"
	"errors"
	"fmt"

	"herdbook/internal/op"
)

// Where an edit by the guest's Perl lies, on the /tmp of the commands.
const (
	perlPath   = "/usr/bin/perl"
	editPath   = "/tmp/herdbook-edit"
	beforePath = "/tmp/herdbook-edit-before"
	afterPath  = "/tmp/herdbook-edit-after"
)

// perlEdit is what virt-edit makes of an expression: it is done for each line, in
// $_, with the line's number in $lineno, and what is printed is the new file.
const perlEdit = `open STDIN, '<', '` + beforePath + `' or die "$!\n";
open STDOUT, '>', '` + afterPath + `' or die "$!\n";
$lineno = 0;
while (<STDIN>) {
  $lineno++;
#line 1 "expression"
%s
;
  print $_ or die "$!\n";
}
close STDOUT or die "$!\n";
`

// edit changes a file by an expression of Perl. Plain substitutions are done
// here; only what is more needs the guest's own Perl.
func (g *Guest) edit(ctx context.Context, o *op.Edit) error {
	st, err := g.Root.Stat(o.Path)
	if err == nil && !isFile(st) {
		err = errSpecial
	}
	if err != nil {
		return fmt.Errorf("edit %s: %w", o.Path, err)
	}
	before, err := g.Root.ReadFile(o.Path)
	if err != nil {
		return fmt.Errorf("edit %s: %w", o.Path, err)
	}
	list, err := parseSubstitutions(o.Expression)
	var after []byte
	if err == nil {
		after, err = substitute(before, list)
	}
	if errors.Is(err, errPerl) {
		after, err = g.perl(ctx, before, o.Expression, err)
	}
	if err != nil {
		return fmt.Errorf("edit %s: %w", o.Path, err)
	}
	return g.Root.Rewrite(o.Path, after)
}

// perl lets the guest's own Perl edit a text; why says what needs it.
func (g *Guest) perl(ctx context.Context, before []byte, expression string, why error) ([]byte, error) {
	if !g.Root.Exists(perlPath) {
		return nil, fmt.Errorf("%w; the guest has no %s, and only plain substitutions s/…/…/ are done without it", why, perlPath)
	}
	for name, content := range map[string]string{
		editPath: fmt.Sprintf(perlEdit, expression), beforePath: string(before), afterPath: "",
	} {
		if err := g.writeTemporary(name, content); err != nil {
			return nil, err
		}
		defer g.Root.RemoveAll(name)
	}
	if err := g.must(ctx, perlPath, editPath); err != nil {
		return nil, err
	}
	return g.Root.ReadFile(afterPath)
}

// NeedsCommands tells whether an operation runs programs of the guest, and so
// needs a root that Prepare has made fit for them.
func NeedsCommands(o op.Operation) bool {
	switch o := o.(type) {
	case *op.Packages, *op.Run, *op.User, *op.Password, *op.Service, *op.Relabel, *op.Bootloader:
		return true
	case *op.Edit:
		_, err := parseSubstitutions(o.Expression)
		return err != nil
	}
	return false
}
