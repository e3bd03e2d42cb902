package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/digest"
	"herdbook/internal/event"
	"herdbook/internal/peer"
)

// tested is the record of a test.
func tested(name string, passed bool, after time.Duration) Tested {
	t := Tested{Key: key(name), Image: "web", Test: `test "boots" "` + name + `" by BIOS`, Passed: passed, How: "tcg"}
	t.Verdict = event.Verdict{Time: dawn.Add(after), Elapsed: 3 * time.Second, Cases: []event.Case{{Name: "uptime", Outcome: event.Passed, Output: "up\n"}}}
	if !passed {
		t.Cases[0].Outcome, t.Cases[0].Text = event.Failed, "it is down"
	}
	return t
}

func TestHowATestEndedIsRecorded(t *testing.T) {
	s := open(t)
	layer := mustCommit(t, s, "a", "")
	good, bad := tested("good", true, time.Hour), tested("bad", false, 0)
	for _, one := range []Tested{good, bad} {
		peer.Must(t, s.Judge(layer.Digest, one))
	}
	list, err := s.Tests(layer.Digest)
	peer.Must(t, err)
	if diff := cmp.Diff([]Tested{bad, good}, list); diff != "" {
		t.Errorf("the oldest is not first, or they are others (-want +got):\n%s", diff)
	}
	proof, ok, err := s.Proof(layer.Digest, good.Key)
	if diff := cmp.Diff(good, proof); diff != "" || !ok || err != nil {
		t.Errorf("%v %v\n%s", ok, err, diff)
	}
	if _, ok, err := s.Proof(layer.Digest, bad.Key); ok || err != nil {
		t.Errorf("one that failed is a proof: %v", err)
	}
	// One that passed and then failed proves nothing any more, and the other way round.
	peer.Must(t, s.Judge(layer.Digest, tested("good", false, 2*time.Hour)))
	peer.Must(t, s.Judge(layer.Digest, tested("bad", true, 2*time.Hour)))
	if _, ok, err := s.Proof(layer.Digest, good.Key); ok || err != nil {
		t.Errorf("it failed since, and is a proof: %v", err)
	}
	if _, ok, err := s.Proof(layer.Digest, bad.Key); !ok || err != nil {
		t.Errorf("it passed since, and is no proof: %v", err)
	}
	if list, err := s.Tests(layer.Digest); err != nil || len(list) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
}

// A proof of before there were records, or whose record is lost, is one all the same.
func TestAProofWithoutARecord(t *testing.T) {
	s := open(t)
	a, b := mustCommit(t, s, "a", ""), mustCommit(t, s, "b", "")
	peer.Must(t, s.Record(key("old"), a.Digest))
	peer.Must(t, s.Judge(a.Digest, tested("torn", true, 0)))
	peer.Must(t, os.WriteFile(s.testedPath(a.Digest, key("torn")), []byte(`{"key":`), 0o644))
	for _, name := range []string{"old", "torn"} {
		proof, ok, err := s.Proof(a.Digest, key(name))
		if diff := cmp.Diff(Tested{Key: key(name), Passed: true}, proof); diff != "" || !ok || err != nil {
			t.Errorf("%s: %v %v\n%s", name, ok, err, diff)
		}
		if _, ok, err := s.Proof(b.Digest, key(name)); ok || err != nil {
			t.Errorf("%s proves another layer: %v", name, err)
		}
	}
	peer.Must(t, os.WriteFile(filepath.Join(filepath.Dir(s.testedPath(a.Digest, "x")), "left.json"), nil, 0o644))
	if list, err := s.Tests(a.Digest); err != nil || len(list) != 0 {
		t.Errorf("what is damaged is listed: %+v, %v", list, err)
	}
	if list, err := s.Tests(b.Digest); err != nil || list != nil {
		t.Errorf("a layer without tests: %+v, %v", list, err)
	}
}

func TestRecordsOfTestsWithPathsAreRefused(t *testing.T) {
	s := open(t)
	layer := mustCommit(t, s, "a", "")
	for _, k := range []Key{"", "../x", Key(strings.Repeat("g", 64))} {
		one := tested("x", true, 0)
		one.Key = k
		if err := s.Judge(layer.Digest, one); err == nil {
			t.Errorf("key %q was taken", k)
		}
	}
	for _, d := range []digest.Digest{"", "../x", digest.Of([]byte("none"))} {
		if err := s.Judge(d, tested("x", true, 0)); err == nil {
			t.Errorf("layer %q was taken", d)
		}
	}
	if _, err := s.Tests("../x"); err == nil {
		t.Error("the tests of ../x")
	}
}

// Records go with their layer.
func TestCollectionRemovesTheRecordsOfTests(t *testing.T) {
	s := open(t)
	layer := mustCommit(t, s, "a", "")
	peer.Must(t, s.Judge(layer.Digest, tested("x", true, 0)))
	report, err := s.Collect(dawn.Add(1000*time.Hour), Policy{MaxAge: time.Hour})
	if err != nil || len(report.Layers) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	if _, err := os.Stat(filepath.Dir(s.testedPath(layer.Digest, key("x")))); !os.IsNotExist(err) {
		t.Errorf("the records are left: %v", err)
	}
	if _, ok, err := s.Proof(layer.Digest, key("x")); ok || err != nil {
		t.Errorf("the proof is left: %v", err)
	}
}
