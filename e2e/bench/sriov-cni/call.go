// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"time"

	"github.com/sriovkit/sriovkit/e2e/bench/contest"
)

// pod is a network namespace by name.
type pod string

func newPod(name string) (pod, error) {
	out, err := exec.Command("ip", "netns", "add", name).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("make namespace %s: %w: %s", name, err, out)
	}
	return pod(name), nil
}

func (p pod) end() error { return exec.Command("ip", "netns", "del", string(p)).Run() }

func (b *bench) call(by contest.Binary, command string, p pod, conf configuration) *exec.Cmd {
	keys := map[string]any{"cniVersion": "1.0.0", "name": "bench", "type": "sriov", "deviceID": b.vf.Address.String(), "logLevel": "error"}
	maps.Copy(keys, conf.keys)
	stdin, _ := json.Marshal(keys) // strings, numbers and maps of them
	cmd := exec.Command(by.Path)
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID="+string(p), "CNI_NETNS=/run/netns/"+string(p),
		"CNI_IFNAME=net1", "CNI_PATH="+guestDir)
	return cmd
}

// cost is what one run took; CPU includes the IPAM plugin's.
type cost struct{ Wall, CPU time.Duration }

func run1(cmd *exec.Cmd) (cost, error) {
	var out bytes.Buffer
	cmd.Stdout = &out
	start := time.Now()
	err := cmd.Run()
	c := cost{Wall: time.Since(start)}
	if err != nil {
		return c, fmt.Errorf("%w: %s", err, out.String())
	}
	c.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return c, nil
}
