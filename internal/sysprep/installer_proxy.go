package sysprep

import (
	"errors"
	"regexp"
	"slices"
	"strings"
)

// aptConf is where d-i writes the proxy of its mirror; people use drop-ins.
const aptConf = "/etc/apt/apt.conf"

var (
	// aptProxy is a proxy of apt.conf(5), such as Acquire::http::Proxy "http://…";
	aptProxy = regexp.MustCompile(`(?i)^\s*Acquire::[a-z]+::Proxy\s+"([^"]*)"\s*;\s*$`)
	// kickstartProxy is an option of url and repo, autoinstallProxy a line of YAML.
	kickstartProxy   = regexp.MustCompile(`--proxy[= ]"?([^\s"]+)"?`)
	autoinstallProxy = regexp.MustCompile(`(?m)^\s*proxy:\s*["']?([^\s"']+)["']?\s*$`)
	// settings are lines that hold a proxy in dnf.conf and in /etc/environment.
	setting = regexp.MustCompile(`(?i)^\s*(?:proxy|(?:http|https|ftp|all)_proxy)\s*=\s*["']?([^\s"']*)["']?\s*$`)
)

// installerProxy removes the proxy by which an installer fetched packages: it was
// the build's, and where a clone runs there may be none. Who wrote a line of dnf.conf
// or of /etc/environment cannot be seen, so those go only if they have the address
// that an installer was given; a proxy that somebody meant for the image stays.
func installerProxy(t *task) error {
	proxies, err := t.installersProxies()
	if err != nil {
		return err
	}
	err = t.root.EditLines(aptConf, func(line string) (string, bool) { return line, !aptProxy.MatchString(line) })
	if text, _ := t.root.ReadFile(aptConf); err == nil && len(proxies) > 0 && t.root.IsFile(aptConf) && strings.TrimSpace(string(text)) == "" {
		err = t.root.RemoveAll(aptConf)
	}
	if err != nil {
		return err
	}
	for _, name := range []string{"/etc/dnf/dnf.conf", "/etc/yum.conf", "/etc/environment"} {
		err = errors.Join(err, t.root.EditLines(name, func(line string) (string, bool) {
			m := setting.FindStringSubmatch(line)
			return line, m == nil || !slices.Contains(proxies, strings.TrimSuffix(m[1], "/"))
		}))
	}
	return errors.Join(err, t.root.Unlink("/etc/apt/apt.conf.d/90curtin-aptproxy", "/etc/systemd/system/snapd.service.d/snap_proxy.conf"))
}

// installersProxies are the addresses that installers were given, as far as they
// left word of them.
func (t *task) installersProxies() ([]string, error) {
	var proxies []string
	for name, pattern := range map[string]*regexp.Regexp{
		aptConf:                                    regexp.MustCompile("(?m)" + aptProxy.String()),
		"/etc/apt/apt.conf.d/90curtin-aptproxy":    regexp.MustCompile("(?m)" + aptProxy.String()),
		"/root/anaconda-ks.cfg":                    kickstartProxy,
		"/root/original-ks.cfg":                    kickstartProxy,
		"/var/log/installer/autoinstall-user-data": autoinstallProxy,
	} {
		if !t.root.IsFile(name) {
			continue
		}
		text, err := t.root.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for _, m := range pattern.FindAllStringSubmatch(string(text), -1) {
			if proxy := strings.TrimSuffix(m[1], "/"); proxy != "" {
				proxies = append(proxies, proxy)
			}
		}
	}
	return proxies, nil
}
