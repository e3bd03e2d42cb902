package guest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"herdbook/internal/op"
)

// The script and what belongs to it lie on the /tmp of the commands, a tmpfs
// that nothing of the image ever sees.
const (
	scriptPath = "/tmp/herdbook-script"
	linePath   = "/tmp/herdbook-line"
	trapPath   = "/tmp/herdbook-trap"
)

// bashTrap makes bash end at the first failing line and say which it was; a line
// that may fail, after set +e, is none. It is read through BASH_ENV, which the
// script's own children must not inherit.
const bashTrap = `unset BASH_ENV
set -eE
trap 'case $- in *e*) echo "$LINENO" >` + linePath + `;; esac' ERR
`

// run executes a script by its own shebang, without one by /bin/sh. Shells end
// at the first failing line, and the error names it.
func (g *Guest) run(ctx context.Context, o *op.Run) error {
	// With its last line whole, or what a shell repeats of it would run into
	// the output behind it.
	if err := g.writeTemporary(scriptPath, strings.TrimSuffix(o.Script, "\n")+"\n"); err != nil {
		return err
	}
	defer g.Root.RemoveAll(scriptPath)
	lines := strings.Split(o.Script, "\n")
	c := Command{}
	for _, name := range slices.Sorted(maps.Keys(o.Environment)) {
		c.Environment = append(c.Environment, name+"="+o.Environment[name].Value)
	}
	interpreter := shebang(lines[0])
	read := &readLines{script: lines}
	switch path.Base(interpreter[0]) {
	case "bash":
		if err := g.writeTemporary(trapPath, bashTrap); err != nil {
			return err
		}
		defer g.Root.RemoveAll(trapPath)
		defer g.Root.RemoveAll(linePath)
		c.Environment = append(c.Environment, "BASH_ENV="+trapPath)
		c.Args = append(interpreter, scriptPath)
	case "sh", "dash":
		// -v prints each line when it is read, which tells how far it came.
		c.Args = append(interpreter, "-e", "-v", scriptPath)
		c.Swallow = read.swallow
	case "ksh", "zsh", "mksh", "ash":
		c.Args = append(interpreter, "-e", scriptPath)
	default:
		c.Args = append(interpreter, scriptPath)
	}
	status, err := g.Runner.Run(ctx, c)
	if err != nil {
		return fmt.Errorf("run script: %w", err)
	}
	if status == 0 {
		return nil
	}
	return &Error{status, errors.New(g.explain(lines, read.count, status))}
}

// explain says where a script ended.
func (g *Guest) explain(lines []string, line, status int) string {
	if text, err := g.Root.ReadFile(linePath); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			line = n
		}
	}
	if line < 1 || line > len(lines) {
		return fmt.Sprintf("the script ended with status %d", status)
	}
	return fmt.Sprintf("the script ended with status %d at line %d: %s", status, line, strings.TrimSpace(lines[line-1]))
}

func (g *Guest) writeTemporary(name, content string) error {
	if err := g.Root.WriteFile(name, []byte(content), owned(0o700), false); err != nil {
		return fmt.Errorf("write script: %w", err)
	}
	return nil
}

// shebang returns the interpreter of a script and, as the kernel has it, at most
// one argument.
func shebang(first string) []string {
	rest, ok := strings.CutPrefix(first, "#!")
	interpreter, argument := strings.TrimSpace(rest), ""
	if i := strings.IndexAny(interpreter, " \t"); i >= 0 {
		interpreter, argument = interpreter[:i], strings.TrimSpace(interpreter[i:])
	}
	switch {
	case !ok || interpreter == "":
		return []string{"/bin/sh"}
	case argument == "":
		return []string{interpreter}
	case path.Base(interpreter) == "env" && !strings.ContainsAny(argument, " \t-="):
		return []string{argument} // found in PATH, as env would
	}
	return []string{interpreter, argument}
}

// readLines takes the lines that a shell with -v repeats out of its standard
// error, and counts them.
type readLines struct {
	script []string
	count  int
}

// swallow is for Command. What a program left without a line's end stands
// before what the shell repeats; before a blank line that cannot be told.
func (r *readLines) swallow(line string) (rest string, whole bool) {
	if r.count == len(r.script) {
		return line, false
	}
	next := strings.TrimRight(r.script[r.count], "\r")
	rest, ok := strings.CutSuffix(line, next)
	if !ok || rest != "" && strings.TrimSpace(next) == "" {
		return line, false
	}
	r.count++
	return rest, rest == ""
}
