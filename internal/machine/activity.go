package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"
)

// Activity is what a machine has done since its start. It only grows.
type Activity struct {
	CPU   time.Duration // processor time of QEMU, the guest's included
	Disks int64         // bytes that the guest has read from its disks and written to them
}

// userHertz is the unit of times in /proc/PID/stat on every architecture that Go
// knows (proc(5), USER_HZ).
const userHertz = 100

// Activity tells how busy the machine was so far. A guest that waits for a person
// takes hardly any processor time and leaves its disks alone.
func (m *Machine) Activity(ctx context.Context) (Activity, error) {
	var a Activity
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.process.PID()))
	if err == nil {
		a.CPU, err = processorTime(stat)
	}
	if err != nil {
		return a, fmt.Errorf("read how busy QEMU is: %w", err)
	}
	p, err := m.qmp.execute(ctx, "query-blockstats")
	if err != nil {
		return a, err
	}
	var devices []struct {
		Stats struct {
			Read    int64 `json:"rd_bytes"`
			Written int64 `json:"wr_bytes"`
		} `json:"stats"`
	}
	if err := json.Unmarshal(p, &devices); err != nil {
		return a, fmt.Errorf("read how busy the disks are: %w", err)
	}
	for _, d := range devices {
		a.Disks += d.Stats.Read + d.Stats.Written
	}
	return a, nil
}

// processorTime reads user and system time, the 14th and 15th field of
// /proc/PID/stat. The second one, a name in brackets, may hold anything.
func processorTime(stat []byte) (time.Duration, error) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const user, system = 14 - 3, 15 - 3
	if len(fields) <= system {
		return 0, fmt.Errorf("%.60q is not what proc(5) says", stat)
	}
	var ticks uint64
	for _, i := range []int{user, system} {
		n, err := strconv.ParseUint(string(fields[i]), 10, 63)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / userHertz, nil
}
