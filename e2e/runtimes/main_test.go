// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespace marks the process that has mounts of its own.
const inNamespace = "SRIOVKIT_RUNTIMES_NAMESPACE"

// The test binary is also every plugin but multus-shim. The tests run in a mount namespace
// of their own: go-cni keeps its cache in /var/lib/cni, wherever it is told to look for
// configurations.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv("CNI_COMMAND") != "":
		if err := plugin(); err != nil {
			fmt.Printf(`{"cniVersion":"1.1.0","code":999,"msg":%q}`, err)
			os.Exit(1)
		}
	case os.Getenv(inNamespace) == "":
		os.Exit(again())
	default:
		if err := unix.Mount("tmpfs", "/var/lib", "tmpfs", 0, "mode=0755"); err != nil {
			fmt.Fprintln(os.Stderr, "mount over /var/lib:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
}

// again runs this process in a mount namespace of its own and returns its exit code.
func again() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	if err := cmd.Run(); cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "mount namespace (needs root):", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

// call is what a plugin was asked. Valid is the list that came with a GC.
type call struct {
	Network, Command, Container, Ifname string
	Valid                               []attachment
}

type attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// plugin notes the call in the file that its configuration names. Its ADD gives one
// interface and one address.
func plugin() error {
	var conf struct {
		CNIVersion, Name, Log string
		Valid                 []attachment `json:"cni.dev/valid-attachments"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&conf); err != nil {
		return err
	}
	command, ifname := os.Getenv("CNI_COMMAND"), os.Getenv("CNI_IFNAME")
	if command == "VERSION" {
		fmt.Print(`{"cniVersion":"1.1.0","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}`)
		return nil
	}
	line, err := json.Marshal(call{conf.Name, command, os.Getenv("CNI_CONTAINERID"), ifname, conf.Valid})
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Clean(conf.Log), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	if _, err := log.Write(append(line, '\n')); err != nil {
		return err
	}
	if command == "ADD" {
		fmt.Printf(`{"cniVersion":%q,"interfaces":[{"name":%q,"mac":"02:00:00:00:00:01","sandbox":%q}],"ips":[{"interface":0,"address":"192.0.2.1/24"}]}`,
			conf.CNIVersion, ifname, os.Getenv("CNI_NETNS"))
	}
	return nil
}
