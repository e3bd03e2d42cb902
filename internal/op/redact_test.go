package op

import "testing"

func TestRedact(t *testing.T) {
	for _, c := range []struct {
		text, want string
		values     []string
	}{
		{"nothing here", "nothing here", nil},
		{"a hunter2 b hunter2", "a *** b ***", []string{"hunter2"}},
		{"hunter2-and-more", "***", []string{"hunter2", "hunter2-and-more"}},
		{"hunter2-and-more", "***", []string{"hunter2-and-more", "hunter2"}},
		{"one line", "*** line", []string{"one\ntwo\n"}},
		{"and two", "and ***", []string{"one\r\ntwo\r\n"}},
		{"a } in a function", "a } in ***", []string{"a function\n}\n"}},
		{"}", "***", []string{"}"}},
		{"empty", "empty", []string{"", "\n", "\r\n"}},
		{"stars ** stay", "stars ** stay", []string{"*", "***"}},
		{"no utf-8: \xff\xfe!", "no utf-8: ***!", []string{"\xff\xfe"}},
	} {
		if got := Redact(c.text, c.values); got != c.want {
			t.Errorf("Redact(%q, %q) = %q, want %q", c.text, c.values, got, c.want)
		}
	}
}
