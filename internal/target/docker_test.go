package target

import (
	"slices"
	"testing"
)

func TestDockerIsChecked(t *testing.T) {
	with := func(change func(*Docker)) *Docker {
		d := &Docker{Tags: []string{"web:latest"}, Formats: slices.Clone(DockerFormats)}
		change(d)
		return d
	}
	good := with(func(d *Docker) {
		d.Push = []string{"registry.example.org/team/web:1.2", "localhost:5000/web:latest", "docker.io/team/a_b__c--d/web:x", "[::1]:5000/web:1", "10.0.0.1:5000/web:1"}
		d.Environment, d.User, d.Workdir, d.StopSignal = map[string]string{"LANG": "C"}, "1000:1000", "/srv", "SIGRTMIN+3"
		d.ExposedPorts, d.Volumes = []string{"80", "53/udp", "8000-8010/tcp"}, []string{"/var/lib/x"}
	})
	if problems := good.Check(); len(problems) > 0 {
		t.Errorf("%+v", problems)
	}
	for name, c := range map[string]struct {
		field string
		d     *Docker
	}{
		"a tag without a version":    {"tags", with(func(d *Docker) { d.Tags = []string{"Web"} })},
		"a format that is none":      {"formats", with(func(d *Docker) { d.Formats = []string{"oci", "tar"} })},
		"no format":                  {"formats", with(func(d *Docker) { d.Formats = []string{} })},
		"no registry":                {"push", with(func(d *Docker) { d.Push = []string{"team/web:1.2"} })},
		"no tag":                     {"push", with(func(d *Docker) { d.Push = []string{"registry.example.org/web"} })},
		"an account in the address":  {"push", with(func(d *Docker) { d.Push = []string{"me:secret@registry.example.org/web:1"} })},
		"a push of nothing":          {"push", with(func(d *Docker) { d.Push, d.Formats = []string{"r.example.org/web:1"}, []string{"docker-archive"} })},
		"a port that is none":        {"exposed_ports", with(func(d *Docker) { d.ExposedPorts = []string{"http"} })},
		"a relative volume":          {"volumes", with(func(d *Docker) { d.Volumes = []string{"srv"} })},
		"a workdir with dots":        {"workdir", with(func(d *Docker) { d.Workdir = "/srv/.." })},
		"a signal that is none":      {"stop_signal", with(func(d *Docker) { d.StopSignal = "stop!" })},
		"a user with a blank":        {"user", with(func(d *Docker) { d.User = "web user" })},
		"a variable that is not one": {"environment", with(func(d *Docker) { d.Environment = map[string]string{"A=B": ""} })},
	} {
		if problems := c.d.Check(); len(problems) == 0 || problems[0].Field != c.field {
			t.Errorf("%s: %+v", name, problems)
		}
	}
}
