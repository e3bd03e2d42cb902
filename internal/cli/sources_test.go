package cli

import (
	"testing"

	"herdbook/internal/peer"
)

// What is compared by its address is read with what it is opened with.
func TestCredentialsGoToTheRepositoryThatIsNamed(t *testing.T) {
	env := map[string]string{"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "session", "HERDBOOK_TOKEN": "token"}
	a := &app{World: World{LookupEnv: func(name string) (string, bool) { value, ok := env[name]; return value, ok }}}
	for address, token := range map[string]string{"s3://images/herd": "", "https://images.example.org": "token", "http://images.example.org": ""} {
		f, err := (&repoFlags{repo: address, unsigned: true}).source(a)
		peer.Must(t, err)
		list, err := a.sources(f, nil)
		peer.Must(t, err)
		s := list[0]
		if s.Token.Value != token || s.Bucket.AccessKey != "key" || string(s.Bucket.SecretKey) != "secret" || string(s.Bucket.SessionToken) != "session" {
			t.Errorf("%s: %q %q", address, s.Token.Value, s.Bucket.AccessKey)
		}
	}
}
