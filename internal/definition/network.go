package definition

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"herdbook/internal/op"
)

// Network is what a machine may reach over its network.
type Network struct {
	Hosts     map[string]string // name, in lower case → the IPv4 address that it has for the guest
	HostPorts []uint16          // ports of the host's loopback that the guest may reach at 10.0.2.2
	DNS       []string          // servers that are asked, ADDRESS:PORT; none: the host's
	Proxy     op.Secret         // URL of the proxy that programs of the guest are told of
	Forward   []Forward         // ports of the host's loopback that lead into the guest, in order
}

// Forward leads from a TCP port of the host's loopback to one of the guest.
type Forward struct {
	Host, Guest uint16
}

// Equal tells whether two networks are one; the values of secrets decide nothing.
func (n *Network) Equal(other *Network) bool {
	if n == nil || other == nil {
		return n == other
	}
	plain := func(s op.Secret) op.Secret {
		if s.Name != "" {
			s.Value, s.Parts = "", nil
		}
		return s
	}
	a, b := *n, *other
	a.Proxy, b.Proxy = plain(a.Proxy), plain(b.Proxy)
	return reflect.DeepEqual(a, b)
}

// networkArguments are those of everything that has a network.
type networkArguments struct {
	Hosts     map[string]string `hcl:"hosts,optional"`
	HostPorts []string          `hcl:"host_ports,optional"`
	DNS       []string          `hcl:"dns,optional"`
}

// stepNetworkArguments are those of steps beside them.
type stepNetworkArguments struct {
	Proxy   op.Secret         `hcl:"proxy,optional"`
	Forward map[string]string `hcl:"forward,optional"`
}

// network reads the arguments, of which given have values.
func (l *loader) network(given hcl.Attributes, raw networkArguments, step stepNetworkArguments) Network {
	n := Network{Proxy: step.Proxy}
	if attr := given["hosts"]; attr != nil {
		n.Hosts = l.hosts(attr, raw.Hosts)
	}
	for _, text := range raw.HostPorts {
		if port := l.port(given["host_ports"], "host_ports", text); port != 0 && !slices.Contains(n.HostPorts, port) {
			n.HostPorts = append(n.HostPorts, port)
		}
	}
	for _, text := range raw.DNS {
		if server, ok := nameServer(text); ok {
			n.DNS = append(n.DNS, server)
		} else {
			l.fault(given["dns"].Expr.Range(), "Bad name server", fmt.Sprintf(`dns: %q is not the address of a name server, such as "10.0.0.53" or "10.0.0.53:5353".`, text))
		}
	}
	l.proxy(given["proxy"], step.Proxy)
	for _, from := range slices.Sorted(maps.Keys(step.Forward)) {
		attr := given["forward"]
		host, guest := l.port(attr, "forward", from), l.port(attr, "forward", step.Forward[from])
		if host == 0 || guest == 0 {
			continue
		}
		if slices.ContainsFunc(n.Forward, func(f Forward) bool { return f.Host == host }) {
			l.fault(attr.Expr.Range(), "Port forwarded twice", fmt.Sprintf("forward: port %d of the host leads to two ports.", host))
			continue
		}
		n.Forward = append(n.Forward, Forward{host, guest})
	}
	return n
}

// noNetwork reports arguments that say something of a network which is not there.
func (l *loader) noNetwork(given hcl.Attributes) {
	for _, name := range []string{"hosts", "host_ports", "dns", "proxy", "forward"} {
		if attr := given[name]; attr != nil {
			l.fault(attr.Range, "Network that is off", fmt.Sprintf("%s: the step has no network, and this turns none on. Hint: network = true does.", name))
		}
	}
}

// hostName is a name that DNS can be asked for.
var hostName = regexp.MustCompile(`^(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$`)

// maxHostName is DNS's bound of a name, in bytes.
const maxHostName = 253

func (l *loader) hosts(attr *hcl.Attribute, raw map[string]string) map[string]string {
	hosts := map[string]string{}
	for _, given := range slices.Sorted(maps.Keys(raw)) {
		name := strings.ToLower(strings.TrimSuffix(given, "."))
		a, err := netip.ParseAddr(raw[given])
		switch {
		case len(name) > maxHostName || !hostName.MatchString(name):
			l.fault(attr.Expr.Range(), "Bad name", fmt.Sprintf("hosts: %q is not the name of a host.", given))
		case err != nil || !a.Is4():
			l.fault(attr.Expr.Range(), "Bad address", fmt.Sprintf("hosts: %q, for %s, is not an IPv4 address; 10.0.2.2 is this host, as far as host_ports go.", raw[given], given))
		case hosts[name] != "":
			l.fault(attr.Expr.Range(), "Name given twice", fmt.Sprintf("hosts: %s has two addresses.", name))
		default:
			hosts[name] = a.String()
		}
	}
	return hosts
}

// port reads a port's number; 0 if it is none, which is reported.
func (l *loader) port(attr *hcl.Attribute, field, text string) uint16 {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		l.fault(attr.Expr.Range(), "Bad port", fmt.Sprintf("%s: %q is not a port: a whole number from 1 to 65535.", field, text))
		return 0
	}
	return uint16(n)
}

// nameServer reads an address, with or without a port.
func nameServer(text string) (string, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(a, 53).String(), true
	}
	s, err := netip.ParseAddrPort(text)
	return s.String(), err == nil && s.Port() != 0
}

// proxy reports an address that is none, or that has a password which could be read in
// the definition.
func (l *loader) proxy(attr *hcl.Attribute, proxy op.Secret) {
	if attr == nil || l.blind { // who reads blindly has another address
		return
	}
	u, err := url.Parse(proxy.Value)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.ContainsAny(proxy.Value, " \t\r\n\x00'\"\\"):
		shown := fmt.Sprintf("%q", proxy.Value)
		if proxy.Name != "" || err == nil && u.User != nil {
			shown = "what is given"
		}
		l.fault(attr.Expr.Range(), "Bad proxy", fmt.Sprintf(`proxy: %s is not the address of a proxy, such as "http://proxy.example.org:3128".`, shown))
	case u.User != nil && proxy.Name == "":
		l.fault(attr.Expr.Range(), "Password in sight", `proxy: a password does not stand in a definition. Hint: take it, or the whole address, from the environment by env().`)
	}
}
