package build

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"herdbook/internal/definition"
	"herdbook/internal/gateway"
	"herdbook/internal/workshop"
)

// join gives a session the network of a step, if it has one.
func join(s *workshop.Session, n *definition.Network) (err error) {
	if n == nil {
		return nil
	}
	if s.Network, err = reach(*n, n.Proxy.Value); err != nil {
		return err
	}
	s.Job.Environment = append(s.Job.Environment, proxyEnvironment(*n)...)
	s.Job.Redact = append(s.Job.Redact, proxySecrets(*n)...)
	return nil
}

// proxySecrets are the values of a proxy that nobody may read: the address, if it is one,
// and the password in it, which programs tell without the rest.
func proxySecrets(n definition.Network) []string {
	values := n.Proxy.Values()
	u, err := url.Parse(n.Proxy.Value)
	if err != nil || len(values) == 0 {
		return values
	}
	password, _ := u.User.Password()
	_, written, _ := strings.Cut(u.User.String(), ":")
	for _, v := range []string{password, written} {
		if v != "" && !slices.Contains(values, v) {
			values = append(values, v)
		}
	}
	return values
}

// reach makes the rules of a network. A server on the host's loopback that the guest is
// told the address of is one that it may reach.
func reach(n definition.Network, told ...string) (*gateway.Rules, error) {
	rules := &gateway.Rules{HostPorts: slices.Clone(n.HostPorts), Hosts: map[string]netip.Addr{}}
	for name, text := range n.Hosts {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("read the address of %s: %w", name, err)
		}
		rules.Hosts[name] = a
	}
	for _, text := range n.DNS {
		server, err := netip.ParseAddrPort(text)
		if err != nil {
			return nil, fmt.Errorf("read the address of a name server: %w", err)
		}
		rules.DNS = append(rules.DNS, server)
	}
	for _, f := range n.Forward {
		rules.Forward = append(rules.Forward, gateway.Forward{Host: f.Host, Guest: f.Guest})
	}
	for _, address := range told {
		if port := hostPort(address); port != 0 && !slices.Contains(rules.HostPorts, port) {
			rules.HostPorts = append(rules.HostPorts, port)
		}
	}
	return rules, nil
}

// hostPort is the port of the host's loopback that a URL means to a guest; 0 if it
// means another place.
func hostPort(address string) uint16 {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() != gateway.Router.String() {
		return 0
	}
	if u.Port() == "" {
		return map[string]uint16{"http": 80, "https": 443}[u.Scheme]
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		return 0
	}
	return uint16(port)
}

// proxyEnvironment tells programs of the guest of a proxy, in both spellings that
// there are. The host, and names that lead where the definition says, are near.
func proxyEnvironment(n definition.Network) []string {
	if n.Proxy.IsZero() {
		return nil
	}
	near := []string{"localhost", "127.0.0.1", gateway.Router.String()}
	for name := range n.Hosts {
		near = append(near, name)
	}
	slices.Sort(near[3:])
	var list []string
	for _, v := range [][2]string{{"http_proxy", n.Proxy.Value}, {"https_proxy", n.Proxy.Value}, {"no_proxy", strings.Join(near, ",")}} {
		list = append(list, v[0]+"="+v[1], strings.ToUpper(v[0])+"="+v[1])
	}
	return list
}
