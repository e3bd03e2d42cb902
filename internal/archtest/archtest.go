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
	"internal/digest":     {pure: true},
	"internal/disk":       {},
	"internal/event":      {pure: true},
	"internal/filesystem": {pure: true},
	"internal/identity":   {pure: true},
	"internal/iso":        {pure: true},
	"internal/luks":       {pure: true},
	"internal/lvm":        {pure: true},
	"internal/mapper":     {pure: true},
	"internal/md":         {pure: true},
	"internal/op":         {pure: true},
	"internal/peer":       {}, // imported by tests and bench only
	"internal/pkgdb":      {pure: true},
	"internal/program":    {},
	"internal/repo":       {pure: true},
	"internal/signed":     {},

	"internal/archive":   {rank: 1, pure: true, imports: []string{"filesystem"}},
	"internal/bootstrap": {rank: 1, imports: []string{"digest", "disk", "event", "program"}},
	"internal/btrfs":     {rank: 1, pure: true, imports: []string{"filesystem"}},
	"internal/cacher":    {rank: 1, imports: []string{"program"}},
	"internal/customize": {rank: 1, pure: true, imports: []string{"op"}},
	"internal/ext4":      {rank: 1, pure: true, imports: []string{"filesystem"}},
	"internal/fat":       {rank: 1, pure: true, imports: []string{"filesystem"}},
	"internal/machine":   {rank: 1, imports: []string{"disk", "event", "program"}},
	"internal/pin":       {rank: 1, pure: true, imports: []string{"digest"}},
	"internal/store":     {rank: 1, imports: []string{"digest"}},
	"internal/tree":      {rank: 1, pure: true, imports: []string{"digest"}},
	"internal/unpack":    {rank: 1, imports: []string{"disk", "event"}},
	"internal/uuid":      {rank: 1, pure: true, imports: []string{"lvm", "mapper"}},
	"internal/volume":    {rank: 1, pure: true, imports: []string{"disk", "luks", "lvm", "mapper", "md"}},
	"internal/workpiece": {rank: 1, imports: []string{"disk"}},
	"internal/xfs":       {rank: 1, pure: true, imports: []string{"filesystem"}},

	"internal/definition":      {rank: 2, pure: true, imports: []string{"digest", "identity", "op"}},
	"internal/guest":           {rank: 2, imports: []string{"event", "op"}},
	"internal/inspection":      {rank: 2, imports: []string{"btrfs", "disk", "ext4", "fat", "filesystem", "mapper", "uuid", "volume", "xfs"}},
	"internal/repo/publish":    {rank: 2, imports: []string{"disk", "event", "repo", "signed"}},
	"internal/source":          {rank: 2, imports: []string{"digest", "event", "pin", "signed", "tree"}},
	"internal/wire":            {rank: 2, imports: []string{"event", "identity", "mapper", "op", "uuid"}},
	"internal/guest/guesttest": {rank: 1, imports: []string{"peer"}}, // imported by tests only

	"internal/filesystem/readertest": {rank: 1, imports: []string{"filesystem", "peer"}}, // imported by tests only

	"internal/growth":        {rank: 3, pure: true, imports: []string{"disk", "inspection", "mapper"}},
	"internal/install":       {rank: 3, pure: true, imports: []string{"definition", "event"}},
	"internal/agent":         {rank: 4, imports: []string{"event", "guest", "identity", "mapper", "op", "sysprep", "uuid", "wire"}},
	"internal/sysprep":       {rank: 3, imports: []string{"event", "guest", "op", "uuid"}},
	"internal/survey":        {rank: 3, pure: true, imports: []string{"disk", "filesystem", "inspection", "pkgdb"}},
	"internal/target/docker": {rank: 3, imports: []string{"archive", "digest", "event", "filesystem", "inspection"}},
	"internal/workshop":      {rank: 3, imports: []string{"disk", "event", "inspection", "machine", "mapper", "op", "uuid", "volume", "wire"}},

	"internal/comparison": {rank: 4, pure: true, imports: []string{"filesystem", "inspection", "pkgdb", "survey"}},

	"internal/clones": {rank: 4, imports: []string{"disk", "event", "identity", "machine", "op", "wire", "workshop"}},
	"internal/plan":   {rank: 4, pure: true, imports: []string{"definition", "digest", "identity", "install", "op", "pin", "store"}},

	"internal/build": {rank: 5, imports: []string{
		"bootstrap", "cacher", "definition", "digest", "disk", "event", "inspection", "install", "iso", "machine", "op", "plan",
		"program", "source", "store", "tree", "unpack", "volume", "wire", "workshop",
		"bootstrap", "cacher", "clones", "definition", "digest", "disk", "event", "inspection", "install", "iso", "machine", "op", "plan",
		"program", "source", "store", "tree", "unpack", "wire", "workshop",
	}},
	"internal/delivery": {rank: 5, imports: []string{
		"definition", "digest", "disk", "event", "inspection", "repo", "repo/publish", "signed", "store", "target/docker",
	}},

	"internal/cli": {rank: 6, imports: []string{
		"archive", "bootstrap", "build", "clones", "comparison", "customize", "definition", "delivery", "digest", "disk", "event", "filesystem", "growth", "identity", "inspection", "machine", "op",
		"pin", "plan", "program", "signed", "source", "store", "survey", "wire", "volume", "workpiece", "workshop",
	}},

	"test/installer": {rank: 7}, // tests only: the real Debian installer

	"bench": {rank: 7, imports: []string{"disk", "event", "peer"}}, // peer, for its mirror: machines of bench install, too

	"test/player": {}, // /init of an initrd that the tests play installers with

	"cmd/herdbook":       {rank: 7, imports: []string{"cli"}},
	"cmd/herdbook-agent": {rank: 7, imports: []string{"agent"}},
}

// doors is where what is not a pure function may be called. The environment and
// the clock of a build enter at cmd/herdbook and travel as values from there.
var doors = map[string][]string{
	"exec.Command":        {"internal/agent", "internal/bootstrap", "internal/cacher", "internal/guest/guesttest", "internal/machine", "internal/peer"},
	"exec.CommandContext": {"bench", "internal/bootstrap", "internal/disk", "internal/guest", "internal/unpack"},
	"os.Args":             {"cmd/herdbook"},
	"os.Environ":          {"bench", "internal/bootstrap"},
	"os.Exit":             {"bench", "cmd/herdbook", "cmd/herdbook-agent"},
	"os.Getenv":           {"internal/peer"},
	"os.LookupEnv":        {"cmd/herdbook"},
	"os.Stderr":           {"bench", "cmd/herdbook", "cmd/herdbook-agent", "internal/agent"},
	"os.Stdout":           {"bench", "cmd/herdbook"},
	"time.Now":            {"bench", "cmd/herdbook", "internal/agent", "test/player"},
}
