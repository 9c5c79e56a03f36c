// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// PoolSelector returns the selector of a pool's nodes. It selects none for a pool that is
// being deleted, and for one with ovsHardwareOffloadConfig, which has no other purpose.
func PoolSelector(p *v1.SriovNetworkPoolConfig) (labels.Selector, error) {
	switch {
	case p.Spec.OvsHardwareOffloadConfig.Name != "" || !p.DeletionTimestamp.IsZero():
		return labels.Nothing(), nil
	case p.Spec.NodeSelector == nil:
		return labels.Everything(), nil
	}
	s, err := metav1.LabelSelectorAsSelector(p.Spec.NodeSelector)
	if err != nil {
		return nil, fmt.Errorf("nodeSelector: %w", err)
	}
	return s, nil
}

// PoolLimit returns how many nodes of a pool of the given size may be drained at once. A
// percentage is rounded down, but to no less than one: with zero a small pool could never
// be changed.
func PoolLimit(unavailable *intstr.IntOrString, size int) (int, error) {
	if unavailable == nil {
		return math.MaxInt, nil
	}
	if unavailable.Type == intstr.Int {
		return unavailable.IntValue(), nil
	}
	digits, percent := strings.CutSuffix(unavailable.StrVal, "%")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || percent && (n < 1 || n > 100) {
		return 0, fmt.Errorf("maxUnavailable %.64q: want a number, or 1%% to 100%%", unavailable.StrVal)
	}
	if !percent {
		return n, nil
	}
	return max(1, size*n/100), nil
}
