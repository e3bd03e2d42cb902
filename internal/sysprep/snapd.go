package sysprep

import (
	"encoding/json"
	"errors"
	"fmt"
)

// snapdState is where snapd remembers everything, the snaps among it.
const snapdState = "/var/lib/snapd/state.json"

// snapd removes the key and the serial number under which the store knows this
// device. snapd makes a new key and registers when its state names none.
func snapd(t *task) error {
	err := errors.Join(
		t.root.Unlink("/var/lib/snapd/device/private-keys-v1/*"),
		t.root.RemoveGlob("/var/lib/snapd/assertions/asserts-v0/{serial,device-session}"),
	)
	if err != nil || !t.root.IsFile(snapdState) {
		return err
	}
	text, err := t.root.ReadFile(snapdState)
	if err != nil {
		return err
	}
	changed, err := without(&text, []string{"data", "auth", "device"}, "serial", "key-id", "session-macaroon")
	if err != nil {
		return fmt.Errorf("read snapd's state: %w", err)
	}
	if !changed {
		return nil
	}
	return t.root.Rewrite(snapdState, text)
}

// without takes members out of the object that the path leads to, and says whether
// there were any. Everything else keeps its text: numbers that only snapd
// understands must not be rounded.
func without(text *[]byte, path []string, members ...string) (changed bool, err error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(*text, &object); err != nil {
		return false, err
	}
	if len(path) == 0 {
		for _, name := range members {
			if _, ok := object[name]; ok {
				delete(object, name)
				changed = true
			}
		}
	} else if inner, ok := object[path[0]]; ok {
		inner := []byte(inner)
		if changed, err = without(&inner, path[1:], members...); err != nil {
			return false, err
		}
		object[path[0]] = inner
	}
	if changed {
		*text, err = json.Marshal(object)
	}
	return changed, err
}
