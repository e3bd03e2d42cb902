package sysprep

import "errors"

// kubernetes removes the certificates with which a kubelet proves which node it is.
// The authority of a control plane stays: without it there is no cluster.
func kubernetes(t *task) error {
	return errors.Join(
		t.root.Empty("/var/lib/kubelet/pki", "/etc/rancher/node"),
		t.root.Unlink("/etc/kubernetes/{kubelet,bootstrap-kubelet}.conf", "/var/lib/rancher/{k3s,rke2}/agent/*.{crt,key,kubeconfig}"),
	)
}
