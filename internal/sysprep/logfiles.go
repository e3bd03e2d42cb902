package sysprep

// logGlobs are virt-sysprep's, with those that it has wrong or lacks: its
// AccountService is spelt AccountsService, and names with a leading dot escape it.
var logGlobs = []string{
	"/var/log/{,.}*.log*", "/var/log/{btmp,cron,dmesg,lastlog,maillog,messages,secure,spooler,tallylog,wtmp,debug,syslog,faillog,firewalld,grubby,xferlog,aptitude}*",
	"/var/log/{audit,mail,anaconda,installer,sa,gdm,lightdm,ntpstats,rhsm,journal,apt,exim4,ConsoleKit,sysstat,unattended-upgrades}/{*,.[!.]*}",
	"/var/log/apache2/*_log{,-*}", "/var/log/httpd/*log", "/var/log/nginx/*", "/var/log/squid/*.log", "/var/log/cups/*_log*",
	"/var/log/ceph/*.log", "/var/log/chrony/*.log", "/var/log/libvirt/*.log", "/var/log/libvirt/{libxl,lxc,qemu,uml}/*.log", "/var/log/tuned/tuned.log",
	"/var/log/setroubleshoot/*.log", "/var/log/ppp/connect-errors", "/var/log/ntp", "/var/log/anaconda.syslog", "/var/log/samba/log.*",
	"/var/log/glusterfs/*glusterd.vol.log", "/var/log/glusterfs/glusterfs.log", "/var/log/jetty/jetty-console.log", "/var/log/BackupPC/LOG", "/var/log/postgresql/*",
	"/var/named/data/named.run", "/var/lib/logrotate{.status,/status,/logrotate.status}", "/var/cache/gdm/*", "/var/lib/AccountsService/users/*",
	"/var/lib/fprint/*", "/var/cache/fontconfig/*", "/var/cache/man/*", "/etc/Pegasus/*.{cnf,crt,csr,pem,srl}",
	"/root/{install.log,install.log.syslog,anaconda-ks.cfg,anaconda-post.log,initial-setup-ks.cfg,original-ks.cfg}",
}

// logfiles removes logs: they name people and machines, and those of login
// accounting come back empty, since their programs do not make them.
func logfiles(t *task) error {
	return t.emptied("/var/log/{btmp,wtmp,lastlog}", logGlobs...)
}
