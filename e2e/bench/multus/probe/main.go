// SPDX-License-Identifier: Apache-2.0

// Probe is the small process around and below the binaries that are measured.
// As "launch PROGRAM" it runs the program and prints its cost; a large parent
// would show up in the child's peak memory. Under any other name it is the
// delegate: a CNI plugin that does nothing.
package main

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "launch" {
		os.Exit(launch(os.Args[2]))
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		os.Exit(1)
	}
	if os.Getenv("CNI_COMMAND") == "ADD" {
		os.Stdout.WriteString(`{"cniVersion":"1.0.0","interfaces":[{"name":"` + os.Getenv("CNI_IFNAME") +
			`","mac":"02:00:00:00:00:01","sandbox":"` + os.Getenv("CNI_NETNS") + `"}]}`)
	}
}

// launch prints wall time, CPU time of the program and all it waited for (ns),
// and peak resident memory of the largest of them (KiB) on descriptor 3.
func launch(program string) int {
	start := time.Now()
	pid, err := syscall.ForkExec(program, []string{program}, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var status syscall.WaitStatus
	var usage syscall.Rusage
	if _, err := syscall.Wait4(pid, &status, 0, &usage); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	wall := time.Since(start)
	fmt.Fprintln(os.NewFile(3, "cost"), wall.Nanoseconds(), usage.Utime.Nano()+usage.Stime.Nano(), usage.Maxrss)
	return status.ExitStatus()
}
