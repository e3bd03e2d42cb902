package definition

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// The parser and the evaluation call themselves; a stack that overflows would
// end the process, with nothing told.
func TestWhatIsNestedTooDeeplyIsRefused(t *testing.T) {
	const n = 24_000
	chains := map[string]string{
		"parentheses": strings.Repeat("(", n) + "1" + strings.Repeat(")", n),
		"unclosed":    strings.Repeat("[", n),
		"objects":     strings.Repeat("{a=", n/2),
		"not":         strings.Repeat("!", n) + "true",
		"minus":       strings.Repeat("-", n) + "1",
		"conditions":  strings.Repeat("true?1:", n) + "1",
		"sum":         strings.Repeat("1+", n) + "1",
		"templates":   strings.Repeat(`"${`, n) + "1" + strings.Repeat(`}"`, n/8),
		"directives":  `"` + strings.Repeat("%{if true}", n) + `"`,
		"calls":       strings.Repeat("min(", n/2),
	}
	for name, chain := range chains {
		t.Run(name, func(t *testing.T) {
			_, err := write(t, "locals {\n  a = "+chain+"\n}\n").load(t)
			if err == nil || !strings.Contains(err.Error(), "herdbook.hcl:2,") || !strings.Contains(err.Error(), "Nested too deeply") {
				t.Errorf("in the definition: %.300v", err)
			}
			if _, err := Format([]byte("a = "+chain+"\n"), "a.hcl"); err == nil {
				t.Error("Format took it")
			}
			e := write(t, "variable \"v\" {\n  type = list(string)\n}\n"+base(""))
			e.options.Variables = map[string]string{"v": chain}
			if _, err := e.load(t); err == nil || !strings.Contains(err.Error(), "want list of string") {
				t.Errorf("on the command line: %.300v", err)
			}
			e = write(t, base("step \"file\" \"f\" {\n  path    = \"/a\"\n  content = templatefile(\"t\", {})\n}"))
			e.add(t, "t", "${"+chain+"}"+strings.Trim(chain, `"`))
			if _, err := e.load(t); err == nil || !strings.Contains(err.Error(), "Nested too deeply") {
				t.Errorf("in a template: %.300v", err)
			}
		})
	}
	if _, err := write(t, strings.Repeat("a {\n", n)).load(t); err == nil || !strings.Contains(err.Error(), "Nested too deeply") {
		t.Errorf("blocks: %.300v", err)
	}
}

func TestADeepDefinitionIsTakenUpToTheBound(t *testing.T) {
	deep := strings.Repeat("(", maxDepth-2) + "1" + strings.Repeat(")", maxDepth-2)
	long := strings.Repeat("1+", maxOperators-1) + "1"
	if _, err := write(t, "locals {\n  a = "+deep+"\n  b = "+long+"\n}\n"+base("")).load(t); err != nil {
		t.Errorf("%.300v", err)
	}
}

func TestAnEndlessFileIsNotRead(t *testing.T) {
	e := write(t, "# "+strings.Repeat("x", maxSource)+"\n")
	if _, err := e.load(t); err == nil || !strings.Contains(text(t, err), fmt.Sprintf("herdbook.hcl: it has more than %d bytes.", maxSource)) {
		t.Errorf("a large definition: %.300v", err)
	}
	e = write(t, base(""))
	e.options.VariableFiles = []string{"/dev/zero"}
	if _, err := e.load(t); err == nil || !strings.Contains(text(t, err), "/dev/zero: it has more than") {
		t.Errorf("an endless file of values: %.300v", err)
	}
	e = write(t, base("step \"file\" \"f\" {\n  path    = \"/a\"\n  content = file(\"big\")\n}"))
	e.add(t, "big", strings.Repeat("x", maxFile+1))
	if _, err := e.load(t); err == nil || !strings.Contains(text(t, err), fmt.Sprintf("read big: it has more than %d bytes.", maxFile)) {
		t.Errorf("a large text: %.300v", err)
	}
}

func TestThousandsOfProblemsAreAllFound(t *testing.T) {
	const n = 3000
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "imag%05d \"a\" {}\n", i)
	}
	_, err := write(t, b.String()).load(t)
	var p *Problems
	if !errors.As(err, &p) || len(p.Diagnostics) != n {
		t.Fatalf("%.300v", err)
	}
	for i, problem := range p.Diagnostics {
		if problem.Subject.Start.Line != i+1 {
			t.Fatalf("problem %d is at line %d, want line %d", i, problem.Subject.Start.Line, i+1)
		}
	}
	got := text(t, err)
	if shown := strings.Count(got, "Error: Unsupported block type"); shown != maxWritten || !strings.HasSuffix(got, "\nand 2900 more problems\n") {
		t.Errorf("%d problems are shown, want %d; the end is %q", shown, maxWritten, got[len(got)-100:])
	}
}

func TestThousandsOfImagesAreOrdered(t *testing.T) {
	const n = 5000
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "image \"i%d\" {\n  from = image.i%d\n}\n", i, i+1)
	}
	text := strings.Replace(base(""), `"base"`, fmt.Sprintf(`"i%d"`, n), 1)
	d, err := write(t, b.String()+text).load(t)
	if err != nil || len(d.Images) != n+1 {
		t.Fatalf("%.300v", err)
	}
	for i, image := range d.Images {
		if want := fmt.Sprintf("i%d", n-i); image.Name != want {
			t.Fatalf("image %d is %s, want %s", i, image.Name, want)
		}
	}
}
