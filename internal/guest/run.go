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
	"sync/atomic"

	"herdbook/internal/op"
)

// The script and what belongs to it lie where nothing of the image ever sees them.
const (
	scriptName = "herdbook-script"
	lineName   = "herdbook-line"
	trapName   = "herdbook-trap"
)

// bashTrap makes bash end at the first failing line and write down, at a path, which
// it was; a line that may fail, after set +e, is none. It is read through BASH_ENV,
// which the script's own children must not inherit.
const bashTrap = `unset BASH_ENV
set -eE
trap 'case $- in *e*) echo "$LINENO" >%s;; esac' ERR
`

// run executes a script by its own shebang, without one by /bin/sh. Shells end
// at the first failing line, and the error names it.
func (g *Guest) run(ctx context.Context, o *op.Run) error {
	scriptPath, linePath, trapPath := g.temporary(scriptName), g.temporary(lineName), g.temporary(trapName)
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
		if err := g.writeTemporary(trapPath, fmt.Sprintf(bashTrap, linePath)); err != nil {
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
	return &Error{status, errors.New(g.explain(lines, int(read.count.Load()), status))}
}

// explain says where a script ended.
func (g *Guest) explain(lines []string, line, status int) string {
	if text, err := g.Root.ReadFile(g.temporary(lineName)); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			line = n
		}
	}
	if line < 1 || line > len(lines) {
		return fmt.Sprintf("the script ended with status %d", status)
	}
	return fmt.Sprintf("the script ended with status %d at line %d: %s", status, line, strings.TrimSpace(lines[line-1]))
}

// temporary is a path on a tmpfs. A directory of ours needs no name of ours in it.
func (g *Guest) temporary(name string) string {
	if g.Temporary == "" {
		return path.Join("/tmp", name)
	}
	return path.Join(g.Temporary, strings.TrimPrefix(name, "herdbook-"))
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
	count  atomic.Int64 // a daemon may hold the stream open behind the script's end
}

// swallow is for Command. What a program left without a line's end stands
// before what the shell repeats; before a blank line that cannot be told.
func (r *readLines) swallow(line string) (rest string, whole bool) {
	count := int(r.count.Load())
	if count == len(r.script) {
		return line, false
	}
	next := strings.TrimRight(r.script[count], "\r")
	rest, ok := strings.CutSuffix(line, next)
	if !ok || rest != "" && strings.TrimSpace(next) == "" {
		return line, false
	}
	r.count.Add(1)
	return rest, rest == ""
}
