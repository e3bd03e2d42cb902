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
		{"a cat had a hat, a", "*** cat had *** hat, ***", []string{"a"}},
		{"port 80, 8080 and 80", "port ***, 8080 and ***", []string{"80"}},
		{"aaa aa=aa é.aa éaa aa_", "aaa ***=*** é.*** éaa aa_", []string{"aa"}},
		{"pin is 123, 1234", "pin is ***, 1234", []string{"123"}},
		{"x--y", "x***y", []string{"--"}},
		{"1234 is in 912345", "*** is in 9***5", []string{"1234"}},
		{"empty", "empty", []string{"", "\n", "\r\n"}},
		{"stars ** stay", "stars ** stay", []string{"*", "***"}},
		{"abcdefgh", "***h", []string{"abcd", "cdefg"}},
		{"ababab, ababcd", "***, ***", []string{"abab", "abcd"}},
		{"hunter2hunter2", "******", []string{"hunter2"}},
		{`it said "a\"b\\c\td"`, `it said "***"`, []string{"a\"b\\c\td"}},
		{`{"k":"a\u003cb\u0026"}`, `{"k":"***"}`, []string{"a<b&"}},
		{`"gr\u00fcn"`, `"***"`, []string{"grün"}},
		{"no utf-8: \xff\xfe!", "no utf-8: ***!", []string{"\xff\xfe"}},
	} {
		if got := Redact(c.text, c.values); got != c.want {
			t.Errorf("Redact(%q, %q) = %q, want %q", c.text, c.values, got, c.want)
		}
	}
}
