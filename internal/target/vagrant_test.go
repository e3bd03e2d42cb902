package target

import (
	"strings"
	"testing"
)

func TestCheckVagrant(t *testing.T) {
	for field, spoil := range map[string]func(*Vagrant){
		"provider":            func(v *Vagrant) { v.Provider = "vmware" },
		"guest_additions":     func(v *Vagrant) { v.Additions = "yes" },
		"guest_additions_iso": func(v *Vagrant) { v.Additions = "iso" },
		"version":             func(v *Vagrant) { v.BoxVersion = "1.0-rc1" },
		"cpus":                func(v *Vagrant) { v.CPUs = 0 },
		"memory":              func(v *Vagrant) { v.Memory = 1 },
	} {
		made, _ := New("vagrant", "web")
		v := made.(*Vagrant)
		if problems := v.Check(); problems != nil {
			t.Fatalf("the defaults: %v", problems)
		}
		spoil(v)
		if problems := v.Check(); len(problems) != 1 || problems[0].Field != field {
			t.Errorf("%s: %v", field, problems)
		}
	}
}

func TestEveryAdjustmentOfVagrantIsAnOperationThatHolds(t *testing.T) {
	for _, provider := range vagrantProviders {
		v := &Vagrant{Provider: provider, Additions: "none"}
		for _, a := range v.Adjustments() {
			if problems := a.Operation.Check(); problems != nil {
				t.Errorf("%s, %s: %v", provider, a.Name, problems)
			}
		}
		if Name(v) != "vagrant-"+provider {
			t.Errorf("its name is %s", Name(v))
		}
	}
	if strings.Count(vagrantScript, "vagrant insecure public key") != 1 {
		t.Error("a second key would stay behind the first up of a Vagrant that knows one")
	}
}
