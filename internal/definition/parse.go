package definition

import (
	"fmt"
	"io"
	"os"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Bounds of what is parsed. The parser and the evaluation call themselves for
// every bracket and every operator, and a stack that overflows ends the process.
const (
	maxSource    = 1 << 20 // bytes of a file of a definition
	maxDepth     = 500     // brackets in brackets
	maxOperators = 20_000  // of one file
)

// parseFile reads and parses one file; nil if it cannot be read.
func (l *loader) parseFile(name string) *hcl.File {
	text, err := readBounded(name, maxSource)
	if err != nil {
		l.report(hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "File cannot be read", Detail: fmt.Sprintf("%s: %v.", name, err)}})
		return nil
	}
	file, diags := parse(l.parser, text, name)
	l.report(diags)
	return file
}

// parse parses a text unless it is nested too deeply; then there is no file.
func parse(parser *hclparse.Parser, text []byte, name string) (*hcl.File, hcl.Diagnostics) {
	tokens, _ := hclsyntax.LexConfig(text, name, hcl.InitialPos)
	if diags := checkDepth(tokens); diags.HasErrors() {
		return nil, diags
	}
	return parser.ParseHCL(text, name)
}

// checkDepth refuses tokens whose parser would call itself too often.
func checkDepth(tokens hclsyntax.Tokens) hcl.Diagnostics {
	depth, operators := 0, 0
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenTemplateInterp:
			depth++
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenTemplateSeqEnd:
			depth--
		case hclsyntax.TokenTemplateControl: // what is between %{if} and %{endif} is parsed deeper, too
			depth++
			operators++
		case hclsyntax.TokenBang, hclsyntax.TokenMinus, hclsyntax.TokenPlus, hclsyntax.TokenStar, hclsyntax.TokenSlash,
			hclsyntax.TokenPercent, hclsyntax.TokenAnd, hclsyntax.TokenOr, hclsyntax.TokenQuestion,
			hclsyntax.TokenEqualOp, hclsyntax.TokenNotEqual, hclsyntax.TokenLessThan, hclsyntax.TokenLessThanEq,
			hclsyntax.TokenGreaterThan, hclsyntax.TokenGreaterThanEq:
			operators++
		}
		if depth > maxDepth || operators > maxOperators {
			return hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "Nested too deeply", Subject: t.Range.Ptr(),
				Detail: fmt.Sprintf("A file has at most %d brackets in brackets and %d operators.", maxDepth, maxOperators)}}
		}
	}
	return nil
}

// readBounded reads a file of at most limit bytes, whatever kind of file it is.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unwrapPath(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, unwrapPath(err)
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("it has more than %d bytes", limit)
	}
	return text, nil
}
