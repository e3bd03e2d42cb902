package sysprep

import "errors"

// sequence is what the counter of at's jobs begins with.
const sequence = "00000\n"

// cronSpool removes jobs that people planned on this machine. The counter of at
// stays, as atd needs it, and begins anew.
func cronSpool(t *task) error {
	err := errors.Join(
		t.root.RemoveFiles([]string{"/var/spool/cron", "/var/spool/at"}, ".SEQ"),
		t.root.Unlink("/var/spool/atjobs/*", "/var/spool/atspool/*"),
	)
	for _, dir := range []string{"/var/spool/cron/atjobs", "/var/spool/atjobs", "/var/spool/at"} {
		name := dir + "/.SEQ"
		if text, _ := t.root.ReadFile(name); !t.root.IsFile(name) || string(text) == sequence {
			continue
		}
		err = errors.Join(err, t.root.Rewrite(name, []byte(sequence)))
	}
	return err
}
