// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// pace is how long each step took the last time, by its title, on this machine: the best
// guess of what is left.
type pace map[string]time.Duration

// readPace has nothing where there was no run yet, or its file makes no sense.
func readPace(path string) pace {
	p := pace{}
	if content, err := os.ReadFile(path); err == nil && json.Unmarshal(content, &p) != nil {
		p = pace{}
	}
	return p
}

func (p pace) write(path string) error {
	content, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}

// left describes how long these steps take; "" if one of them was never done before.
func (p pace) left(titles []string) string {
	var sum time.Duration
	for _, t := range titles {
		took, ok := p[t]
		if !ok || took < 0 {
			return ""
		}
		sum += took
	}
	if sum < 90*time.Second {
		return fmt.Sprintf(" (about %.0f s to go, by the last run)", sum.Seconds())
	}
	return fmt.Sprintf(" (about %.0f min to go, by the last run)", sum.Minutes())
}
