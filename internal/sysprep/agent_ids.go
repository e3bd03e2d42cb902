package sysprep

import "errors"

// identities are what agents made to be told apart by their servers.
var identities = []string{
	"/var/lib/tailscale/tailscaled.state", "/var/lib/zerotier-one/{identity.public,identity.secret,authtoken.secret}",
	"/var/lib/netdata/registry/netdata.public.unique.id", "/var/lib/netdata/cloud.d/{claimed_id,private.pem,public.pem,token,cloud.conf}",
	"/{opt,var/lib}/consul/{,data/}node-id", "/{opt,var/lib}/nomad/{,data/}{client/client-id,client/secret-id,server/node-id}",
	"/var/lib/teleport/host_uuid", "/var/lib/{auditbeat,filebeat,heartbeat,metricbeat,packetbeat}/meta.json", "/var/osquery/osquery.{db,em}",
	"/var/lib/amazon/ssm/{Vault,registration,i-*,mi-*}", "/etc/{instance_id,google_instance_id}",
	"/var/lib/ubuntu-advantage/private/*", "/var/lib/landscape/client/*", "/etc/insights-client/{machine-id,.registered,.unregistered}",
	"/var/ossec/etc/client.keys", "/var/lib/cmk-agent/{registered_connections,controller_state}.json",
	"/var/lib/icinga2/certs/*", "/etc/gitlab-runner/.runner_system_id", "/var/lib/cfengine3/ppkeys/localhost.*", "/var/cfengine/ppkeys/localhost.*",
	"/var/lib/fwupd/pki/{secret.key,client.pem}",
}

// agentIDs removes the identities of agents, which make a new one at their start.
// The agent of Zabbix has the name in its settings, and asks the system without.
func agentIDs(t *task) error {
	return errors.Join(
		t.root.RemoveGlob(identities...),
		t.dropLines("/etc/zabbix/zabbix_agent{d,2}.conf", "Hostname="),
		t.dropLines("/etc/zabbix/zabbix_agent{d,2}.d/*.conf", "Hostname="),
	)
}
