package sysprep

import "path"

// kerberosData removes the database of a Kerberos server and leaves its settings.
func kerberosData(t *task) error {
	names, err := t.root.Glob("/var/kerberos/krb5kdc/{*,.[!.]*}")
	if err != nil {
		return err
	}
	for _, name := range names {
		if base := path.Base(name); base == "kadm5.acl" || base == "kdc.conf" || t.root.IsDir(name) {
			continue
		}
		if err := t.root.RemoveAll(name); err != nil {
			return err
		}
	}
	return nil
}
