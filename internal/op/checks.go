package op

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"
)

// CommandCheck is one command in the booted machine, and what it must answer.
type CommandCheck struct {
	Name       string `json:"name,omitempty"`
	Run        string `hcl:"run" json:"run"`                                    // for /bin/sh
	Expect     string `hcl:"expect,optional" json:"expect,omitempty"`           // regular expression that its output must match; "" for any
	ExitStatus int    `hcl:"exit_status,optional" json:"exit_status,omitempty"` // that it must end with
	User       string `hcl:"user,optional" json:"user,omitempty"`               // who runs it; "" for root
}

// Check returns what is wrong with the fields.
func (c *CommandCheck) Check() []Problem {
	var list []Problem
	if strings.TrimSpace(c.Run) == "" {
		list = append(list, Problem{"run", "it has no command", ""})
	}
	if _, err := regexp.Compile(c.Expect); err != nil {
		list = append(list, Problem{"expect", fmt.Sprintf("%q is no pattern: %v", c.Expect, err), ""})
	}
	if c.ExitStatus < 0 || c.ExitStatus > 255 {
		list = append(list, Problem{"exit_status", fmt.Sprintf("no program ends with status %d", c.ExitStatus), "0 to 255"})
	}
	if c.User != "" && !plainAccount.MatchString(c.User) {
		list = append(list, Problem{"user", fmt.Sprintf("%q is no name of an account", c.User), ""})
	}
	return list
}

// plainAccount is a name as useradd takes it.
var plainAccount = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_.-]{0,31}$`)

// PortCheck says whether something must listen on a port of the booted machine.
type PortCheck struct {
	Port     int           `hcl:"port" json:"port"`
	Address  string        `hcl:"address,optional" json:"address,omitempty"`   // at which it must be reached; "" for any
	Protocol string        `hcl:"protocol,optional" json:"protocol,omitempty"` // tcp or udp
	Open     bool          `hcl:"open,optional" json:"open"`
	Wait     time.Duration `json:"wait,omitempty"` // how long it may take until it is open
}

// Check returns what is wrong with the fields.
func (c *PortCheck) Check() []Problem {
	var list []Problem
	if c.Port < 1 || c.Port > 65535 {
		list = append(list, Problem{"port", fmt.Sprintf("there is no port %d", c.Port), "1 to 65535"})
	}
	if _, err := netip.ParseAddr(c.Address); c.Address != "" && err != nil {
		list = append(list, Problem{"address", fmt.Sprintf("%q is no address such as 127.0.0.1 or ::1", c.Address), ""})
	}
	if c.Protocol != "tcp" && c.Protocol != "udp" {
		list = append(list, Problem{"protocol", fmt.Sprintf("%q is neither tcp nor udp", c.Protocol), ""})
	}
	return list
}

// String names the port, such as tcp/80 or udp/127.0.0.1:53.
func (c *PortCheck) String() string {
	switch {
	case c.Address == "":
		return fmt.Sprintf("%s/%d", c.Protocol, c.Port)
	case strings.Contains(c.Address, ":"):
		return fmt.Sprintf("%s/[%s]:%d", c.Protocol, c.Address, c.Port)
	}
	return fmt.Sprintf("%s/%s:%d", c.Protocol, c.Address, c.Port)
}

// ServiceCheck says in what state a service of the booted machine must be.
type ServiceCheck struct {
	Name    string `hcl:"name" json:"name"`
	Running bool   `hcl:"running,optional" json:"running"`
	Enabled *bool  `hcl:"enabled,optional" json:"enabled,omitempty"` // nil: either
}

// Check returns what is wrong with the fields.
func (c *ServiceCheck) Check() []Problem {
	if !unitName.MatchString(c.Name) {
		return []Problem{{"name", fmt.Sprintf("%q is no name of a service", c.Name), ""}}
	}
	return nil
}

// GossCheck is a run of goss in the booted machine. All paths are the guest's.
type GossCheck struct {
	File    string `json:"file"`
	Vars    string `json:"vars,omitempty"`
	Program string `json:"program,omitempty"` // that was laid down; "" if none was
	Own     bool   `json:"own,omitempty"`     // the guest's own is taken where it has one
}
