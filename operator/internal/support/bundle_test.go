// SPDX-License-Identifier: Apache-2.0

package support

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sriovkit/sriovkit/operator/internal/inventory"
)

// Of thousands of nodes a bundle has as many logs as can be sent around, those of pods that do
// not do well first, also of their init containers, and says how many it leaves out.
func TestLogsAreBounded(t *testing.T) {
	t.Parallel()
	inv := &inventory.Inventory{Namespace: "ours"}
	for i := range 100 {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ours", Name: fmt.Sprintf("daemon-%02d", i)}}
		p.Spec.Containers = []corev1.Container{{Name: "a"}}
		if i != 99 {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		} else {
			p.Spec.InitContainers = []corev1.Container{{Name: "before"}}
		}
		inv.Pods = append(inv.Pods, p)
	}
	inv.Pods = append(inv.Pods, corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "theirs", Name: "x"}})
	b, text := Bundle{}, []byte(strings.Repeat("x", 100))
	var asked []string
	missed := b.addLogs(t.Context(), inv, func(_ context.Context, _, pod, container string) ([]byte, error) {
		asked = append(asked, pod+" "+container)
		if pod == "daemon-00" {
			return nil, errors.New("gone")
		}
		return text, nil
	}, 6400)
	require.Equal(t, []string{"daemon-99 before", "daemon-99 a", "daemon-00 a"}, asked[:3])
	require.Len(t, b, 64)
	require.Equal(t, []string{"log of daemon-00/a: gone", "logs of 36 containers: those before them are 6400 bytes already, or took all of 5m0s"}, missed)
	require.False(t, slices.ContainsFunc(asked, func(s string) bool { return strings.HasPrefix(s, "x") }), "somebody else's")
}
