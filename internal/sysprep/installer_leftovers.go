package sysprep

import "errors"

// installerLeftovers removes the answers that installers were given, which hold
// passwords, and what they logged.
func installerLeftovers(t *task) error {
	return errors.Join(
		t.root.Empty("/var/log/{installer,anaconda,curtin}", "/var/adm/autoinstall/{cache,files,logs,scripts}"),
		t.root.Unlink(
			"/root/{anaconda-ks.cfg,original-ks.cfg,initial-setup-ks.cfg,anaconda-post.log,install.log,install.log.syslog}",
			"/root/{autoinst.xml,preseed.cfg,curtin-install.log,curtin-install-cfg.yaml}", "/{preseed.cfg,autoinst.xml,autoinstall.yaml}",
			"/var/log/anaconda.*", "/tmp/builder.log", "/root/virt-sysprep-firstboot.log",
		),
	)
}
