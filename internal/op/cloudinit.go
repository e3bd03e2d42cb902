package op

import (
	"fmt"
	"strings"
)

// CloudInit gives the image's own cloud-init user-data, once: it is on a disk that only
// this boot has (NoCloud), and what cloud-init keeps of it is removed afterwards, so that
// a clone's cloud-init is as on its first boot.
type CloudInit struct {
	UserData      Secret `hcl:"user_data" json:"user_data"`
	MetaData      string `hcl:"meta_data,optional" json:"meta_data,omitempty"`           // default DefaultMetaData
	NetworkConfig string `hcl:"network_config,optional" json:"network_config,omitempty"` // of this boot only; default what cloud-init makes of the devices
	AllowWarnings bool   `hcl:"allow_warnings,optional" json:"allow_warnings,omitempty"`
}

// DefaultMetaData names the instance that the build is.
const DefaultMetaData = "instance-id: herdbook\n"

// maxUserData bounds each text of cloud-init's, in bytes; clouds take 16 KiB.
const maxUserData = 4 << 20

// Kind implements Operation.
func (*CloudInit) Kind() string { return "cloud-init" }

// Version implements Operation.
func (*CloudInit) Version() int { return 1 }

// Check implements Operation.
func (c *CloudInit) Check() []Problem {
	var problems []Problem
	for _, text := range []struct{ field, text string }{{"user_data", c.UserData.Value}, {"meta_data", c.MetaData}, {"network_config", c.NetworkConfig}} {
		if len(text.text) > maxUserData {
			problems = append(problems, Problem{text.field, fmt.Sprintf("it has more than %d bytes", maxUserData), ""})
		}
	}
	if c.UserData.Name == "" && strings.TrimSpace(c.UserData.Value) == "" {
		problems = append(problems, Problem{"user_data", "the user-data is empty", `it begins with "#cloud-config", or with "#!" if it is a script`})
	}
	return problems
}
