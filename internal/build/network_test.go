package build

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/definition"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/workshop"
)

func TestHostPort(t *testing.T) {
	for address, want := range map[string]uint16{
		"http://10.0.2.2:3128": 3128, "http://me:word@10.0.2.2:3128/": 3128, "http://10.0.2.2": 80, "https://10.0.2.2/debian": 443,
		"http://10.0.2.3:3128": 0, "http://proxy.example.org:3128": 0, "": 0, "http://10.0.2.2:99999": 0, "://": 0,
	} {
		if got := hostPort(address); got != want {
			t.Errorf("%s: %d, want %d", address, got, want)
		}
	}
}

// What a step says of its network is what its guest has, and a secret in the proxy's
// address is blotted out of what it says.
func TestJoin(t *testing.T) {
	var s workshop.Session
	peer.Must(t, join(&s, &definition.Network{
		Hosts: map[string]string{"puppet.test": "10.0.2.2", "db.test": "192.0.2.7"}, HostPorts: []uint16{8140}, DNS: []string{"[2001:db8::1]:53"},
		Proxy:   op.Secret{Value: "http://me:pr0xy@10.0.2.2:3128", Name: "PROXY", Parts: []string{"pr0xy"}},
		Forward: []definition.Forward{{Host: 2222, Guest: 22}},
	}))
	near := "localhost,127.0.0.1,10.0.2.2,db.test,puppet.test"
	want := []string{
		"http_proxy=http://me:pr0xy@10.0.2.2:3128", "HTTP_PROXY=http://me:pr0xy@10.0.2.2:3128",
		"https_proxy=http://me:pr0xy@10.0.2.2:3128", "HTTPS_PROXY=http://me:pr0xy@10.0.2.2:3128",
		"no_proxy=" + near, "NO_PROXY=" + near,
	}
	if diff := cmp.Diff(want, s.Job.Environment); diff != "" {
		t.Error(diff)
	}
	if !slices.Equal(s.Job.Redact, []string{"http://me:pr0xy@10.0.2.2:3128", "pr0xy"}) {
		t.Errorf("%q", s.Job.Redact)
	}
	r := s.Network
	if !slices.Equal(r.HostPorts, []uint16{8140, 3128}) || r.DNS[0].String() != "[2001:db8::1]:53" || r.Hosts["db.test"].String() != "192.0.2.7" || r.Forward[0].Guest != 22 || r.Alone {
		t.Errorf("%+v", r)
	}
	s = workshop.Session{}
	peer.Must(t, join(&s, nil))
	if s.Network != nil {
		t.Errorf("%+v", s)
	}
	peer.Must(t, join(&s, &definition.Network{}))
	if s.Network == nil || len(s.Job.Environment)+len(s.Job.Redact)+len(s.Network.HostPorts) > 0 {
		t.Errorf("%+v", s)
	}
}
