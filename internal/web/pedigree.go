package web

import (
	"fmt"
	"strings"
)

// Measures of the drawing, in CSS pixels. It is as wide as the page, so all that
// stands across it is measured from the left or as a part of the whole.
const (
	groupHead  = 42 // from the top of an image's box to its first layer
	layerPitch = 62 // from a layer to the next
	groupGap   = 14 // between the boxes of two images
	maxShort   = 33 // characters that fit on a telephone
	maxLabel   = 68 // and on a page that is wide
	maxDrawn   = 60 // layers; of more, only the newest are drawn
)

// pedigree is the drawing of how an image came to be: from top to bottom the layers
// from the oldest to the newest, in a box for each image that they were made for.
type pedigree struct {
	Height   int
	Text     string // the same in words
	Boxes    []box
	Nodes    []node
	From, To int // of the line that joins the layers
	Left     int // layers that were not drawn
}

type box struct {
	Name          string
	Y, Height, At int // At is where the name stands
}

type node struct {
	Layer
	Y            int
	Short, Label string // the step, for narrow pages and for wide ones
	Packages     string // how many came, went and changed; "" if none
	Bar          string // how long its bar is, as a percentage
	Newest       bool
}

// draw lays out a pedigree.
func draw(layers []Layer) pedigree {
	var p pedigree
	if len(layers) > maxDrawn {
		p.Left = len(layers) - maxDrawn
		layers = layers[p.Left:]
	}
	largest := int64(1)
	for _, l := range layers {
		largest = max(largest, l.Size)
	}
	y := 0
	var words []string
	for i, l := range layers {
		if i == 0 || l.Image != layers[i-1].Image {
			if i > 0 {
				y += groupGap
			}
			p.Boxes = append(p.Boxes, box{Name: clip(plain(l.Image), maxShort), Y: y, At: y + 24})
			y += groupHead
			words = append(words, plain(l.Image))
		}
		n := node{Layer: l, Y: y + 12, Label: clip(plain(l.Step), maxLabel), Short: clip(plain(l.Step), maxShort), Newest: i == len(layers)-1}
		n.Packages = shorthand(l)
		n.Bar = fmt.Sprintf("%.1f%%", max(0.6, 78*float64(max(l.Size, 0))/float64(largest)))
		p.Nodes = append(p.Nodes, n)
		y += layerPitch
		b := &p.Boxes[len(p.Boxes)-1]
		b.Height = y - b.Y
	}
	if len(p.Nodes) > 0 {
		p.From, p.To, p.Height = p.Nodes[0].Y, p.Nodes[len(p.Nodes)-1].Y, y+2
		p.Text = fmt.Sprintf("%s, oldest first, of %s: %s. The table below has the same facts.",
			many(len(p.Nodes), "layer", "layers"), many(len(p.Boxes), "image", "images"), strings.Join(words, ", then "))
	}
	return p
}

// shorthand says what became of packages in little room: +2 −1 ~5.
func shorthand(l Layer) string {
	var parts []string
	for _, p := range []struct {
		sign string
		n    int
	}{{"+", len(l.Added)}, {"−", len(l.Removed)}, {"~", len(l.Changed)}} {
		if p.n > 0 {
			parts = append(parts, p.sign+exact(int64(p.n)))
		}
	}
	if parts == nil {
		return ""
	}
	return " · packages " + strings.Join(parts, " ")
}

const (
	maxRows = 500   // packages that one list tells of
	maxAll  = 5_000 // packages that all lists of a page tell of
)

// rows is the beginning of a list.
type rows[T any] struct {
	List  []T
	Total int
}

// Left is how many are not shown.
func (r rows[T]) Left() int { return r.Total - len(r.List) }

// firstOf shows no more of a list than there is room for on the page.
func firstOf[T any](list []T, room *int) rows[T] {
	n := min(len(list), maxRows, *room)
	*room -= n
	return rows[T]{list[:n], len(list)}
}

// layerData is a layer with what it changed.
type layerData struct {
	Layer
	Number      int
	Differences differences
}

// Summary says in words what became of packages.
func (l layerData) Summary() string {
	if l.Unknown {
		return "not known"
	}
	return l.Differences.Summary()
}

func explainLayers(layers []Layer) []layerData {
	var list []layerData
	room := maxAll
	for i, l := range layers {
		list = append(list, layerData{l, i + 1, differences{Changed: firstOf(l.Changed, &room), Added: firstOf(l.Added, &room), Removed: firstOf(l.Removed, &room)}})
	}
	return list
}
