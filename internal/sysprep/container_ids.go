package sysprep

import "errors"

// containerIDs removes the names by which engines and clusters of containers know
// this machine; images and containers stay.
func containerIDs(t *task) error {
	return errors.Join(
		t.root.Unlink("/var/lib/docker/engine-id", "/etc/docker/key.json", "/var/lib/docker/swarm/{docker-state,state}.json",
			"/var/lib/containerd/io.containerd.grpc.v1.introspection/uuid"),
		t.root.RemoveGlob("/var/lib/docker/swarm/{certificates,raft,worker}"),
	)
}
