package event

import "testing"

func TestSink(t *testing.T) {
	var silent Sink
	silent.Emit(Event{Kind: Notice})
	silent.For("a", "b").Line(Stdout, "nobody hears")

	var got []Event
	sink := Sink(func(e Event) { got = append(got, e) })
	Tee(silent, sink.For("image", "step")).Line(Console, "text")
	sink.For("image", "step").Emit(Event{Kind: Phase, Image: "other"})
	want := []Event{
		{Kind: Log, Image: "image", Step: "step", Stream: Console, Text: "text"},
		{Kind: Phase, Image: "other", Step: "step"},
	}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
