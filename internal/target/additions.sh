#!/bin/sh
# The guest additions are of use only with modules for the kernel that a machine starts.
# Those of Linux itself do as well as VirtualBox's.
for modules in /lib/modules/*/modules.dep; do
	version=$(basename "$(dirname "$modules")")
	for module in vboxguest vboxsf; do
		if ! modinfo -k "$version" "$module" >/dev/null 2>&1; then
			echo "the kernel $version has no module $module: install the package that has all its modules, such as linux-modules-extra-$version, or another kernel" >&2
			exit 1
		fi
	done
done
