package program

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"herdbook/internal/peer"
)

func TestMissingPrograms(t *testing.T) {
	_, err := Find("mmdebstrap-that-is-not-there")
	var missing *MissingError
	if !errors.As(err, &missing) || strings.HasSuffix(err.Error(), "install ") {
		t.Errorf("the error: %v", err)
	}
	if err := error(&MissingError{"mke2fs", "e2fsprogs"}); err.Error() != "mke2fs is not installed: apt-get install e2fsprogs" {
		t.Error(err)
	}
}

func TestAProcessEndsAsAsked(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*Process)
		want string
	}{
		"asked":  {(*Process).Terminate, "signal: terminated"},
		"killed": {(*Process).Kill, "signal: killed"},
	} {
		p, err := Start(exec.Command("sleep", "600"))
		peer.Must(t, err)
		c.end(p)
		<-p.Done()
		if p.Err() == nil || p.Err().Error() != c.want {
			t.Errorf("%s: it ended with %v", name, p.Err())
		}
		c.end(p) // which is no error
	}
}

func TestAProgramThatCannotBeStarted(t *testing.T) {
	if p, err := Start(exec.Command("/no/such/program")); p != nil || err == nil || !strings.Contains(err.Error(), "start /no/such/program") {
		t.Errorf("%v, %v", p, err)
	}
}
