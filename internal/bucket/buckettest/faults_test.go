package buckettest

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
)

func TestEveryThird(t *testing.T) {
	var e EveryThird
	var turns []int
	for i := range 30 {
		if turn, fails := e.Fails(httptest.NewRequest("GET", fmt.Sprint("/", i), nil)); fails {
			turns = append(turns, turn)
		}
	}
	if want := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}; !slices.Equal(turns, want) || e.Requests() != 30 {
		t.Errorf("%d of %d failed", turns, e.Requests())
	}
}

// One request is the third again and again, since two others come between.
func TestNoRequestFailsTooOftenInARow(t *testing.T) {
	var e EveryThird
	var failed []bool
	for i := range 12 {
		e.Fails(httptest.NewRequest("GET", fmt.Sprint("/a/", i), nil))
		e.Fails(httptest.NewRequest("GET", fmt.Sprint("/b/", i), nil))
		_, fails := e.Fails(httptest.NewRequest("PUT", "/index", nil))
		failed = append(failed, fails)
	}
	if want := []bool{true, true, true, true, false, true, true, true, true, false, true, true}; !slices.Equal(failed, want) {
		t.Errorf("%v", failed)
	}
}
