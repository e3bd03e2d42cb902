package mapper

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParameters(t *testing.T) {
	node := func(s Source) string {
		if s.Device != "" {
			return "/dev/mapper/" + s.Device
		}
		return fmt.Sprint("/dev/vda", s.Partition)
	}
	one := []Area{{Source{Partition: 2}, 2048}}
	two := append(one, Area{Source{Device: "x"}, 0})
	for want, target := range map[string]Target{
		"/dev/vda2 2048":                                           {Type: Linear, Areas: one},
		"2 128 /dev/vda2 2048 /dev/mapper/x 0":                     {Type: Striped, Areas: two, Chunk: 128},
		"core 2 1024 nosync 2 /dev/vda2 2048 /dev/mapper/x 0":      {Type: Mirror, Areas: two},
		"aes-xts-plain64 00ff10 0 /dev/vda2 2048 1 allow_discards": {Type: Crypted, Areas: one, Crypt: &Crypt{Cipher: "aes-xts-plain64", Key: Key{0, 255, 16}, SectorSize: 512}},
		"aes-xts-plain64 00 8 /dev/vda2 2048 2 allow_discards sector_size:4096": {Type: Crypted, Areas: one,
			Crypt: &Crypt{Cipher: "aes-xts-plain64", Key: Key{0}, SectorSize: 4096, IVOffset: 8}},
	} {
		if got := target.Parameters(node); got != want {
			t.Errorf("%s: %q, want %q", target.Type, got, want)
		}
	}
}

func TestKeysAreNotPrinted(t *testing.T) {
	key := Key("0123456789abcdef")
	d := []Device{{Name: "x", Table: []Target{{Type: Crypted, Crypt: &Crypt{Key: key}}}}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		for _, v := range []any{key, *d[0].Table[0].Crypt, d} {
			text := fmt.Sprintf(verb, v)
			if strings.Contains(text, "0123") || strings.Contains(text, "3031") || strings.Contains(text, "48 49") {
				t.Errorf("%s shows the key: %s", verb, text)
			}
		}
	}
	if got := Keys(d); len(got) != 1 || got[0] != key.Hex() {
		t.Errorf("Keys = %q", got)
	}
	text, err := json.Marshal(d)
	var back []Device
	if err == nil {
		err = json.Unmarshal(text, &back)
	}
	if err != nil || string(back[0].Table[0].Crypt.Key) != string(key) {
		t.Errorf("the key got lost on the wire: %v", err)
	}
}

func TestNeeded(t *testing.T) {
	on := func(name string, sources ...Source) Device {
		var areas []Area
		for _, s := range sources {
			areas = append(areas, Area{Source: s})
		}
		return Device{Name: name, Table: []Target{{Type: Linear, Areas: areas}}}
	}
	all := []Device{on("a", Source{Partition: 1}), on("b", Source{Partition: 2}), on("c", Source{Device: "a"}), on("d", Source{Device: "b"}, Source{Device: "c"}), on("e", Source{Device: "a"})}
	for want, sources := range map[string][]Source{
		"": {{Partition: 1}}, "a": {{Device: "a"}}, "a c": {{Device: "c"}}, "a b c d": {{Device: "d"}}, "a c e": {{Device: "e"}, {Device: "c"}},
	} {
		var names []string
		for _, d := range Needed(all, sources...) {
			names = append(names, d.Name)
		}
		if diff := cmp.Diff(want, strings.Join(names, " ")); diff != "" {
			t.Error(diff)
		}
	}
}
