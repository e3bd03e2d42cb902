// Package archtest holds the architecture as a table and tests the module against
// it: which package may import which, which are pure, how large a piece may grow,
// and at which doors the clock, the environment and other programs enter.
package archtest

// place is where a package stands. Imports go down in rank only, and only along
// the edges that are written here.
type place struct {
	rank    int
	pure    bool     // no exec, net, randomness or goroutines
	imports []string // below internal/
}

// packages is every package of the module.
var packages = map[string]place{
	"internal/archtest":   {},
	"internal/bucket":     {},
	"internal/digest":     {pure: true},
	"internal/disk":       {},
	"internal/event":      {pure: true},
	"internal/filesystem": {pure: true},
	"internal/identity":   {pure: true},
	"internal/iso":        {pure: true},
	"internal/kmod":       {pure: true},
	"internal/luks":       {pure: true},
	"internal/lvm":        {pure: true},
	"internal/mapper":     {pure: true},
	"internal/md":         {pure: true},
	"internal/op":         {pure: true},
	"internal/ovf":        {pure: true},
	"internal/peer":       {}, // imported by tests and bench only
	"internal/nic":        {},
	"internal/pkgdb":      {pure: true},
	"internal/program":    {},
	"internal/repo":       {pure: true},
	"internal/signed":     {},

	"internal/sshd":   {},
	"internal/tunnel": {},

	"internal/ansible":       {rank: 1, pure: true, imports: []string{"op"}},
	"internal/cloudinit":     {rank: 1, pure: true, imports: []string{"op"}},
	"internal/archive":       {rank: 1, pure: true, imports: []string{"filesystem"}},
	"internal/bootstrap":     {rank: 1, imports: []string{"digest", "disk", "event", "program"}},
	"internal/btrfs":         {rank: 1, pure: true, imports: []string{"filesystem"}},
	"internal/cacher":        {rank: 1, imports: []string{"program"}},
	"internal/customize":     {rank: 1, pure: true, imports: []string{"op"}},
	"internal/ext4":          {rank: 1, pure: true, imports: []string{"filesystem"}},
	"internal/fat":           {rank: 1, pure: true, imports: []string{"filesystem"}},
	"internal/junit":         {rank: 1, pure: true, imports: []string{"event"}},
	"internal/gateway":       {rank: 1, imports: []string{"event"}},
	"internal/pack":          {rank: 1, imports: []string{"disk", "event", "filesystem", "program"}},
	"internal/pin":           {rank: 1, pure: true, imports: []string{"digest"}},
	"internal/ramroot":       {rank: 1, imports: []string{"digest", "nic"}},
	"internal/serve":         {rank: 1, imports: []string{"bucket", "event"}},
	"internal/puppet":        {rank: 1, pure: true, imports: []string{"op"}},
	"internal/repo/manifest": {rank: 1, pure: true, imports: []string{"digest"}},
	"internal/store":         {rank: 1, imports: []string{"digest", "event", "program"}},
	"internal/target":        {rank: 1, pure: true, imports: []string{"op"}},
	"internal/tree":          {rank: 1, pure: true, imports: []string{"digest"}},
	"internal/unpack":        {rank: 1, imports: []string{"disk", "event"}},
	"internal/uuid":          {rank: 1, pure: true, imports: []string{"lvm", "mapper"}},
	"internal/volume":        {rank: 1, pure: true, imports: []string{"disk", "luks", "lvm", "mapper", "md"}},
	"internal/web":           {rank: 1}, // shows values of its own, which the server makes of others
	"internal/workpiece":     {rank: 1, imports: []string{"disk"}},
	"internal/xfs":           {rank: 1, pure: true, imports: []string{"filesystem"}},

	"internal/definition":        {rank: 2, pure: true, imports: []string{"digest", "identity", "op", "pin", "repo", "target"}},
	"internal/guest":             {rank: 2, imports: []string{"event", "op"}},
	"internal/inspection":        {rank: 2, imports: []string{"btrfs", "disk", "ext4", "fat", "filesystem", "kmod", "mapper", "uuid", "volume", "xfs"}},
	"internal/source":            {rank: 2, imports: []string{"bucket", "digest", "event", "op", "pin", "signed", "tree"}},
	"internal/machine":           {rank: 2, imports: []string{"disk", "event", "gateway", "program"}},
	"internal/wire":              {rank: 2, imports: []string{"cloudinit", "event", "identity", "mapper", "op", "puppet", "uuid"}},
	"internal/bucket/buckettest": {rank: 1, imports: []string{"bucket", "peer"}}, // imported by tests only

	"internal/kmod/kmodtest": {rank: 1, imports: []string{"kmod", "peer"}}, // imported by tests only

	"internal/guest/guesttest": {rank: 1, imports: []string{"peer"}}, // imported by tests only

	"internal/repo/streams": {rank: 1, pure: true, imports: []string{"repo"}},
	"internal/repo/doors":   {rank: 2, pure: true, imports: []string{"repo", "repo/streams"}},

	"internal/filesystem/readertest": {rank: 1, imports: []string{"filesystem", "peer"}}, // imported by tests only

	"internal/repo/audit":   {rank: 3, imports: []string{"bucket", "event", "repo", "repo/doors", "repo/manifest", "signed"}},
	"internal/repo/publish": {rank: 3, imports: []string{"bucket", "event", "repo", "repo/doors", "repo/streams", "signed"}},
	"internal/repo/client":  {rank: 3, imports: []string{"bucket", "digest", "disk", "event", "op", "program", "repo", "repo/streams", "signed", "source", "unpack"}},

	"internal/growth":                     {rank: 3, pure: true, imports: []string{"disk", "inspection", "mapper"}},
	"internal/install":                    {rank: 3, pure: true, imports: []string{"definition", "event"}},
	"internal/agent":                      {rank: 4, imports: []string{"cloudinit", "event", "guest", "identity", "mapper", "nic", "op", "puppet", "sshd", "sysprep", "tunnel", "uuid", "wire"}},
	"internal/sysprep":                    {rank: 3, imports: []string{"event", "guest", "op", "uuid"}},
	"internal/survey":                     {rank: 3, pure: true, imports: []string{"disk", "filesystem", "inspection", "pkgdb"}},
	"internal/artefact/artefacttest":      {rank: 4, imports: []string{"artefact", "digest", "disk", "event", "inspection", "peer", "store", "target"}},
	"internal/artefact":                   {rank: 3, imports: []string{"digest", "disk", "event", "inspection", "ovf", "program", "store", "target"}},
	"internal/target/ova":                 {rank: 4, imports: []string{"artefact", "event", "inspection", "ovf", "pack", "target"}},
	"internal/target/vagrant":             {rank: 4, imports: []string{"artefact", "event", "inspection", "ovf", "pack", "target"}},
	"internal/target/ramdisk":             {rank: 4, imports: []string{"archive", "artefact", "digest", "event", "filesystem", "inspection", "kmod", "machine", "program", "ramroot", "target"}},
	"internal/target/ramdisk/ramdisktest": {rank: 5, imports: []string{"artefact", "artefact/artefacttest", "kmod", "machine", "peer"}}, // imported by tests only

	"internal/target/iso":    {rank: 5, imports: []string{"artefact", "event", "filesystem", "inspection", "machine", "program", "target", "target/ramdisk"}},
	"internal/workshop":      {rank: 3, imports: []string{"disk", "event", "filesystem", "gateway", "inspection", "kmod", "machine", "mapper", "op", "uuid", "volume", "wire"}},
	"internal/target/format": {rank: 4, imports: []string{"artefact", "disk", "event", "inspection", "target"}},
	"internal/target/root":   {rank: 4, imports: []string{"archive", "artefact", "container", "event", "inspection", "target"}},
	"internal/container":     {rank: 2, pure: true, imports: []string{"archive", "filesystem"}},
	"internal/sbom":          {rank: 3, pure: true, imports: []string{"digest", "inspection", "pkgdb"}},
	"internal/target/docker": {rank: 4, imports: []string{"archive", "artefact", "container", "digest", "disk", "event", "filesystem", "inspection", "sbom", "store", "target"}},
	"internal/target/openstack": {rank: 4, imports: []string{
		"artefact", "cloudinit", "digest", "disk", "event", "filesystem", "gateway", "inspection", "iso", "kmod", "machine", "op", "pack", "target",
	}},

	"internal/comparison": {rank: 4, pure: true, imports: []string{"filesystem", "inspection", "pkgdb", "survey"}},

	"internal/clones": {rank: 4, imports: []string{"disk", "event", "identity", "machine", "op", "wire", "workshop"}},
	"internal/plan":   {rank: 4, pure: true, imports: []string{"definition", "digest", "identity", "install", "op", "pin", "store"}},

	"internal/build": {rank: 5, imports: []string{
		"ansible", "bootstrap", "cacher", "clones", "cloudinit", "definition", "digest", "disk", "event", "gateway", "growth", "inspection", "install", "iso", "machine", "op",
		"plan", "program", "puppet", "source", "store", "tree", "tunnel", "unpack", "volume", "wire", "workshop",
	}},
	"internal/delivery": {rank: 6, imports: []string{
		"artefact", "bucket", "comparison", "definition", "digest", "disk", "event", "filesystem", "inspection", "machine", "pack", "pkgdb", "plan", "repo", "repo/manifest",
		"repo/publish", "signed", "store", "target", "target/docker", "target/format", "target/iso", "target/openstack", "target/ova", "target/ramdisk", "target/root",
		"target/vagrant",
	}},

	"internal/cli": {rank: 7, imports: []string{
		"ansible", "archive", "bootstrap", "bucket", "build", "clones", "comparison", "customize", "definition", "delivery", "digest", "disk", "event",
		"filesystem", "gateway", "growth", "identity", "inspection", "junit", "machine", "op", "pin", "plan", "program", "repo", "repo/audit", "repo/client",
		"repo/manifest", "repo/publish", "serve", "signed", "source", "store", "survey", "volume", "web", "wire", "workpiece", "workshop",
	}},

	"test/installer": {rank: 7}, // tests only: the real Debian installer

	"bench": {rank: 7, imports: []string{"disk", "event", "machine", "peer", "repo", "signed"}}, // peer, for its servers: machines of bench need them, too

	"test/player": {}, // /init of an initrd that the tests play installers with

	"cmd/herdbook":       {rank: 8, imports: []string{"cli"}},
	"cmd/herdbook-agent": {rank: 7, imports: []string{"agent"}},
	"cmd/herdbook-init":  {rank: 7, imports: []string{"ramroot"}},
}

// doors is where what is not a pure function may be called. The environment and
// the clock of a build enter at cmd/herdbook and travel as values from there.
var doors = map[string][]string{
	"exec.Command":        {"internal/agent", "internal/bootstrap", "internal/build", "internal/cacher", "internal/guest/guesttest", "internal/kmod/kmodtest", "internal/machine", "internal/peer", "internal/signed", "internal/sshd"},
	"exec.CommandContext": {"bench", "internal/agent", "internal/bootstrap", "internal/disk", "internal/guest", "internal/pack", "internal/program", "internal/repo/client", "internal/target/ramdisk/ramdisktest", "internal/unpack"},
	"os.Args":             {"cmd/herdbook", "cmd/herdbook-agent", "cmd/herdbook-init"},
	"os.Environ":          {"bench", "internal/bootstrap"},
	"os.Exit":             {"bench", "cmd/herdbook", "cmd/herdbook-agent", "cmd/herdbook-init"},
	"os.Getenv":           {"internal/peer"},
	"os.LookupEnv":        {"cmd/herdbook"},
	"os.Stderr":           {"bench", "cmd/herdbook", "cmd/herdbook-agent", "internal/agent", "internal/ramroot"},
	"os.Stdout":           {"bench", "cmd/herdbook"},
	"time.Now":            {"bench", "cmd/herdbook", "internal/agent", "test/player"},
}
