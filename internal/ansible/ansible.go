// Package ansible is ansible-playbook from outside: the files and the command line that
// make a run of it herdbook's own whatever the host's configuration says, the report of a
// run, and what follows from it. Running it is left to others.
package ansible

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"herdbook/internal/op"
)

// The programs that are needed on the host.
const (
	Program = "ansible-playbook"
	SSH     = "ssh"
)

// Spec is a run of a playbook. Its directories are absolute paths of the host.
type Spec struct {
	Step    *op.Ansible
	Tree    string // a copy of the step's Tree: Ansible may write into it
	Private string // directory of the Files, which others must not read
	Sockets string // directory of SSH's control sockets, whose path must be short
	Port    int    // of 127.0.0.1, that leads to the guest's SSH server
	HostKey string // of that server, as in known_hosts behind the name
	Key     []byte // private key of who may come, as OpenSSH reads it
	Home    string // of the user: where programs keep themselves
	Path    string // where programs of the host are
}

//go:embed callback.py
var callback []byte

// Inventory is the name of a file in the tree: an inventory brings the group_vars that lie
// beside it.
const Inventory = "herdbook-inventory.json"

// names of private files.
const (
	configName    = "ansible.cfg"
	sshConfigName = "ssh_config"
	keyName       = "key"
	knownName     = "known_hosts"
	variablesName = "variables.json"
	vaultName     = "vault"
	pluginsName   = "plugins"
	reportName    = "report"
)

// Report is the path of the file that the run reports in.
func (s Spec) Report() string { return path.Join(s.Private, reportName) }

// Files are what a run needs, by their paths. They hold secrets.
func (s Spec) Files() (map[string][]byte, error) {
	inventory, err := json.MarshalIndent(s.inventory(), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the inventory: %w", err)
	}
	private := map[string][]byte{
		configName:                   []byte(s.config()),
		sshConfigName:                []byte(s.sshConfig()),
		keyName:                      s.Key,
		knownName:                    fmt.Appendf(nil, "[127.0.0.1]:%d %s\n", s.Port, s.HostKey),
		pluginsName + "/herdbook.py": callback,
	}
	if len(s.Step.Variables) > 0 {
		values := map[string]string{}
		for name, secret := range s.Step.Variables {
			values[name] = secret.Value
		}
		if private[variablesName], err = json.Marshal(values); err != nil {
			return nil, fmt.Errorf("write the variables: %w", err)
		}
	}
	if !s.Step.Vault.IsZero() {
		private[vaultName] = []byte(s.Step.Vault.Value + "\n")
	}
	files := map[string][]byte{path.Join(s.Tree, Inventory): inventory}
	for name, content := range private {
		files[path.Join(s.Private, name)] = content
	}
	return files, nil
}

// inventory is one host. Its variables stand with the host itself, where no group's come
// before them.
func (s Spec) inventory() any {
	type group struct {
		Hosts    map[string]any   `json:"hosts,omitempty"`
		Children map[string]group `json:"children,omitempty"`
	}
	host := s.Step.InventoryHost()
	variables := map[string]any{"ansible_host": "127.0.0.1", "ansible_port": s.Port, "ansible_user": s.Step.Account(), "ansible_connection": "ssh"}
	if s.Step.Python != "" {
		variables["ansible_python_interpreter"] = s.Step.Python
	}
	all := group{Hosts: map[string]any{host: variables}, Children: map[string]group{}}
	for _, name := range s.Step.Groups {
		all.Children[name] = group{Hosts: map[string]any{host: nil}}
	}
	return map[string]group{"all": all}
}

// config is what does not depend on paths of the host: those are in the environment,
// where they mean themselves whatever they hold. Modules leave nothing in the guest's log
// (their arguments would stand there) and nothing on its disk.
func (s Spec) config() string {
	return strings.Join([]string{
		"[defaults]",
		"async_dir = " + op.AnsibleTemporary + "/async",
		"callbacks_enabled = herdbook",
		"fact_caching = memory",
		"host_key_checking = True",
		"interpreter_python = auto_silent",
		"localhost_warning = False",
		"no_target_syslog = True",
		"nocolor = True",
		"nocows = True",
		"remote_tmp = " + op.AnsibleTemporary,
		"retry_files_enabled = False",
		"system_tmpdirs = " + op.AnsibleTemporary,
		"timeout = 120", // of SSH's greeting: a guest under emulation takes its time
		"",
		"[ssh_connection]",
		"pipelining = True", // most modules are then never written down at all
		"retries = 0",
		"transfer_method = piped",
		"usetty = False",
	}, "\n") + "\n"
}

func (s Spec) sshConfig() string {
	return strings.Join([]string{
		"Host *",
		"  BatchMode yes",
		"  GlobalKnownHostsFile /dev/null",
		"  IdentitiesOnly yes",
		"  IdentityAgent none",
		"  IdentityFile " + sshQuote(path.Join(s.Private, keyName)),
		"  StrictHostKeyChecking yes",
		"  UpdateHostKeys no",
		"  UserKnownHostsFile " + sshQuote(path.Join(s.Private, knownName)),
	}, "\n") + "\n"
}

// sshQuote makes a path one argument of ssh_config(5), without what % or $ would become.
func sshQuote(name string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`).Replace(name) + `"`
}

// Arguments are those of ansible-playbook.
func (s Spec) Arguments() []string {
	o := s.Step
	playbook, _ := o.InTree()
	args := []string{"--inventory", path.Join(s.Tree, Inventory)}
	if len(o.Variables) > 0 {
		args = append(args, "--extra-vars", "@"+path.Join(s.Private, variablesName))
	}
	if !o.Vault.IsZero() {
		args = append(args, "--vault-password-file", path.Join(s.Private, vaultName))
	}
	for _, tags := range []struct {
		option string
		tags   []string
	}{{"--tags", o.Tags}, {"--skip-tags", o.SkipTags}} {
		if len(tags.tags) > 0 {
			args = append(args, tags.option, strings.Join(tags.tags, ","))
		}
	}
	if o.Become {
		args = append(args, "--become")
	}
	args = append(args, o.Arguments...)
	return append(args, path.Join(s.Tree, playbook))
}

// Environment is all that a run sees of one: nothing of the user's own but where the
// programs are. Roles and collections are those of the tree, and those that the host
// has for everybody.
func (s Spec) Environment() []string {
	return []string{
		"PATH=" + s.Path, "HOME=" + s.Home, "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1",
		"ANSIBLE_CONFIG=" + path.Join(s.Private, configName),
		"ANSIBLE_HOME=" + path.Join(s.Private, "home"),
		"ANSIBLE_LOCAL_TEMP=" + path.Join(s.Private, "tmp"),
		"ANSIBLE_CALLBACK_PLUGINS=" + path.Join(s.Private, pluginsName),
		"ANSIBLE_ROLES_PATH=" + path.Join(s.Tree, "roles") + ":/usr/share/ansible/roles:/etc/ansible/roles",
		"ANSIBLE_COLLECTIONS_PATH=" + path.Join(s.Tree, "collections") + ":/usr/share/ansible/collections",
		"ANSIBLE_SSH_ARGS=-F " + shellQuote(path.Join(s.Private, sshConfigName)) + " -o ControlMaster=auto -o ControlPersist=60s",
		"ANSIBLE_SSH_CONTROL_PATH_DIR=" + s.Sockets,
		"HERDBOOK_REPORT=" + s.Report(),
	}
}

// shellQuote makes a text one word of a shell.
func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// Shown is a text of the run with the tree by the name that the user knows it by.
func (s Spec) Shown(text string) string {
	return strings.NewReplacer(s.Tree, s.Step.Tree(), s.Private, "herdbook's own").Replace(text)
}
