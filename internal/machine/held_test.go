package machine

import (
	"bytes"
	"testing"
)

func TestHeldInputComesInItsOrder(t *testing.T) {
	var out bytes.Buffer
	h := &held{w: &out}
	for _, text := range []string{"ls", " -l\n"} {
		if n, err := h.Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if out.Len() > 0 {
		t.Errorf("%q came too early", &out)
	}
	h.release()
	if _, err := h.Write([]byte("exit\n")); err != nil || out.String() != "ls -l\nexit\n" {
		t.Errorf("%q, %v", &out, err)
	}
	full := &held{w: &out}
	if _, err := full.Write(make([]byte, maxHeld+1)); err == nil {
		t.Error("it keeps without bound")
	}
}
