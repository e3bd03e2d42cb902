package plan

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/pin"
	"herdbook/internal/store"
)

func planned(t interface{ Fatal(...any) }, d *definition.Definition, l pin.Lock) *Plan {
	p, err := New(d, l)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func release(mirror, suite string) pin.Pin {
	return pin.Pin{Name: pin.AptName(mirror, suite), URL: mirror + "/dists/" + suite + "/InRelease", Checksum: of(mirror + suite).Checksum(), Dated: "today"}
}

// chain is the herd and an image without steps behind it.
func chain() *definition.Definition {
	d := herd()
	d.Images = append(d.Images, definition.Image{Name: "same", From: "child"})
	return d
}

// layer is what a fake build makes of a key.
func layer(key store.Key) digest.Digest { return of("layer of " + string(key)) }

// built finds every layer.
func built(key store.Key) (digest.Digest, bool) { return layer(key), true }

func TestABootstrappedImageBeginsWithTwoLayers(t *testing.T) {
	p := planned(t, herd(), lockOf("release"))
	steps := p.Images[0].Steps
	if got := []string{steps[0].Label(), steps[1].Label(), steps[2].Label()}; !slices.Equal(got, []string{`bootstrap "mmdebstrap"`, "bootloader", `packages "s0"`}) {
		t.Errorf("it begins with %q", got)
	}
	if s := steps[0]; s.Bootstrap == nil || s.Size != 4<<30 || s.Operation != nil {
		t.Errorf("the first step is %+v", s)
	}
	if s := steps[1]; s.Bootstrap != nil || s.Operation.Kind() != "bootloader" || s.Network != nil {
		t.Errorf("the second step is %+v", s)
	}
	for _, image := range p.Images {
		for _, s := range image.Steps {
			if s.Image != image.Name || s.Trim != (s.Kind == KindSysprep) {
				t.Errorf("image %s, %s: Image %q, Trim %v", image.Name, s.Label(), s.Image, s.Trim)
			}
		}
	}
}

// A step sees the repositories that its guest knows, from whichever ancestor, but
// only through a network.
func TestOnlyStepsWithANetworkSeeRepositories(t *testing.T) {
	d := chain()
	d.Images[2].Bootstrap.Suite = "trixie"
	steps := []definition.Step{{Kind: "run", Operation: &op.Run{}, Network: &definition.Network{}}, {Kind: "run", Operation: &op.Run{}}}
	d.Images = append(d.Images, definition.Image{Name: "a", From: "same", Steps: steps}, definition.Image{Name: "b", From: "other", Steps: steps})
	p := planned(t, d, pin.Lock{}.With(release(mirror, suite)).With(release(mirror, "trixie")))
	for name, suite := range map[string]string{"a": suite, "b": "trixie"} {
		image, _ := p.Image(name)
		if diff := cmp.Diff([]pin.Pin{release(mirror, suite)}, image.Steps[0].Pins); diff != "" {
			t.Errorf("image %s with a network: %s", name, diff)
		}
		if image.Steps[1].Pins != nil {
			t.Errorf("image %s without a network sees %v", name, image.Steps[1].Pins)
		}
	}
}

func TestAPartOfAPlanHasTheSameKeys(t *testing.T) {
	p := planned(t, chain(), lockOf("release"))
	part, err := p.With("same")
	peer.Must(t, err)
	all, some := p.Resolve(built), part.Resolve(built)
	for _, name := range []string{"base", "child", "same"} {
		if diff := cmp.Diff(all[name], some[name]); diff != "" {
			t.Errorf("image %s: %s", name, diff)
		}
	}
	if len(part.Images) != 3 || len(p.Images) != 4 {
		t.Errorf("the part has %d images, the plan %d", len(part.Images), len(p.Images))
	}
}

// In a chain that was built half-way, what is behind the first missing layer is
// not known, and nobody is asked for it.
func TestResolveStopsAtTheFirstMissingLayer(t *testing.T) {
	p := planned(t, chain(), lockOf("release"))
	whole := p.Resolve(built)
	order := slices.Concat(whole["base"], whole["child"])
	for have := range len(order) + 1 {
		there := map[store.Key]bool{}
		for _, s := range order[:have] {
			there[s.Key] = true
		}
		for _, s := range order[min(have+1, len(order)):] { // built before, upon another layer
			there[s.Key] = true
		}
		asked := map[store.Key]int{}
		states := p.Resolve(func(key store.Key) (digest.Digest, bool) {
			asked[key]++
			if !there[key] {
				return "", false
			}
			return layer(key), true
		})
		for n, got := range slices.Concat(states["base"], states["child"]) {
			want := State{Step: order[n].Step}
			if n <= have {
				want = order[n]
			}
			if n == have {
				want.Layer = ""
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%d layers built, step %d: %s", have, n, diff)
			}
			if n > have && asked[order[n].Key] > 0 {
				t.Errorf("%d layers built: step %d was asked for", have, n)
			}
		}
		if len(states["same"]) != 0 || asked[""] != 0 {
			t.Errorf("%d layers built: %v, asked for %d empty keys", have, states["same"], asked[""])
		}
		if !states["other"][0].Known {
			t.Errorf("%d layers built: an image beside is not known", have)
		}
	}
}

// An image without steps hands on its parent's layer, or that there is none.
func TestResolveLooksThroughImagesWithoutSteps(t *testing.T) {
	d := chain()
	d.Images = append(d.Images, definition.Image{Name: "last", From: "same", Steps: []definition.Step{{Kind: "run", Operation: &op.Run{Script: "true"}}}})
	p := planned(t, d, lockOf("release"))
	states := p.Resolve(built)
	if top := states["child"][1].Layer; states["last"][0].Parent != top || !states["last"][0].Known {
		t.Errorf("the parent is %s, want %s", states["last"][0].Parent, top)
	}
	none := p.Resolve(func(store.Key) (digest.Digest, bool) { return "", false })
	if s := none["last"][0]; s.Known || s.Key != "" || s.Parent != "" {
		t.Errorf("nothing is built, and yet: %+v", s)
	}
}
