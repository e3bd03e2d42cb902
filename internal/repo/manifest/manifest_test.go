package manifest

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/digest"
	"herdbook/internal/peer"
)

var made = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// sample has everything that can be told.
func sample() Manifest {
	first, last := digest.Of([]byte("first")), digest.Of([]byte("last"))
	nginx := Package{"dpkg", "nginx", "1.22.1-9", "amd64", 1 << 20}
	return Manifest{
		Image: "web", Layer: last, Created: made, Size: 2 << 30,
		System: System{Name: "Debian GNU/Linux 12 (bookworm)", ID: "debian", VersionID: "12", Architecture: "amd64", Kernels: List[Kernel]{"6.1.0-18-amd64"}, OSInfo: "debian12"},
		Layers: List[Layer]{
			{Digest: first, Image: "debian-12", Step: `bootstrap "mmdebstrap"`, Created: made, Elapsed: 43.5, How: "host", Size: 1 << 29},
			{Digest: last, Image: "web", Step: `packages "nginx"`, Created: made, Elapsed: 2.25, How: "kvm", Size: 1 << 24, Used: 1 << 30, Grown: -5, Packages: &Changes{
				Added:   List[Package]{nginx},
				Removed: List[Package]{{Manager: "dpkg", Name: "nano", Version: "7.2-1"}},
				Changed: List[Change]{{"dpkg", "libc6", "amd64", "2.36-9", "2.36-9+deb12u4", -100}},
			}},
		},
		Packages: List[Package]{nginx},
		Tests:    List[Test]{{Name: `test "boots" by BIOS`, Time: made, Elapsed: 20.5, How: "kvm", Cases: 2}},
	}
}

func TestFormatAndParse(t *testing.T) {
	text, err := sample().Format()
	peer.Must(t, err)
	peer.Golden(t, "manifest.json", text)
	m, err := Parse(text)
	peer.Must(t, err)
	if diff := cmp.Diff(sample(), m); diff != "" {
		t.Error(diff)
	}
	// What tells of no tests is read by those who know none.
	untested := sample()
	untested.Tests = nil
	text, err = untested.Format()
	peer.Must(t, err)
	if m, err := Parse(text); err != nil || !strings.HasPrefix(string(text), "{\n \"version\": 1,\n") || strings.Contains(string(text), "tests") || !cmp.Equal(untested, m) {
		t.Errorf("%v: %s", err, text)
	}
	if text, err := (Manifest{Image: "web"}).Format(); err == nil {
		t.Errorf("one without layers: %s", text)
	}
}

func TestParseRefuses(t *testing.T) {
	text, err := sample().Format()
	peer.Must(t, err)
	good := string(text)
	change := func(old, new string) string {
		t.Helper()
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in %s", old, good)
		}
		return strings.Replace(good, old, new, 1)
	}
	for name, c := range map[string]struct{ text, want string }{
		"nothing":         {"", "unexpected end"},
		"cut short":       {good[:len(good)/2], "unexpected end"},
		"no object":       {"[]", "cannot unmarshal"},
		"no version":      {"{}", "version 0 is none"},
		"a later version": {change(`"version": 2`, `"version": 3`), "version 3 is none"},
		"tests too soon":  {change(`"version": 2`, `"version": 1`), "version 1 has no tests"},
		"a negative test": {change(`"cases": 2`, `"cases": -2`), "-2 bytes"},
		"more behind":     {good + "{}", "after top-level value"},
		"unknown field":   {change(`"how"`, `"who"`), "unknown field"},
		"unknown, deeper": {change(`"manager"`, `"boss"`), "unknown field"},
		"no layers":       {`{"version":1,"image":"web","layer":"` + string(sample().Layer) + `"}`, "not the last"},
		"another layer":   {change(string(sample().Layer), strings.Repeat("0", 64)), "not the last"},
		"no digest":       {change(string(sample().Layers[0].Digest), "../x"), "digest"},
		"negative":        {change(`"size": 2147483648`, `"size": -1`), "-1 bytes"},
		"too large":       {change(`"size": 2147483648`, `"size": 9e99`), "cannot unmarshal"},
		"control":         {change(`"host"`, `"\u001b[31m"`), "control character"},
		"two lines":       {change(`"host"`, `"a\nb"`), "control character"},
		"long":            {change(`"host"`, `"`+strings.Repeat("x", maxText+1)+`"`), "are the most"},
		"no name":         {change(`"name": "nginx"`, `"name": ""`), `called ""`},
		"no list":         {change(`"layers": [`, `"layers": {"x": [`), ""},
		"an object":       {`{"version":1,"layers":{}}`, "where a list should"},
		"nothing in it":   {`{"version":1,"packages":[null]}`, `called ""`},
		"bytes":           {strings.Repeat(" ", MaxSize+1), "is the most"},
		"many":            {`{"version":1,"system":{"kernels":["a"` + strings.Repeat(`,"a"`, maxList) + `]}}`, "more than 65536"},
	} {
		if m, err := Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) || !cmp.Equal(m, Manifest{}) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// A text of the largest size does not become a multiple of it.
func TestParseIsBounded(t *testing.T) {
	for _, element := range []string{"null", "{}"} {
		text := []byte(`{"version":1,"layers":[` + strings.Repeat(element+",", (MaxSize-100)/(len(element)+1)) + element + `]}`)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := Parse(text); err == nil {
			t.Error(element, "was taken")
		}
		runtime.ReadMemStats(&after)
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 6*MaxSize { // the decoder's buffer, doubled
			t.Errorf("%s: %d bytes", element, allocated)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, err := sample().Format()
	peer.Must(f, err)
	f.Add(text)
	f.Add([]byte(fmt.Sprintf(`{"version":1,"image":"a","layer":%q,"layers":[{"digest":%[1]q,"image":"a","step":"b"}]}`, digest.Of(nil))))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Parse(text)
		if err != nil {
			return
		}
		again, err := m.Format()
		if err != nil {
			if _, odd := m.Created.MarshalJSON(); odd != nil {
				return // a year that cannot be written
			}
			t.Fatal(err)
		}
		n, err := Parse(again)
		peer.Must(t, err)
		a, err := json.Marshal(m)
		peer.Must(t, err)
		if b, err := json.Marshal(n); err != nil || string(a) != string(b) {
			t.Errorf("%s\n%s", a, b)
		}
	})
}
