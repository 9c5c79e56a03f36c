// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// paged answers as an API server does, in JSON that leaves out what is empty.
type paged struct {
	client.Reader
	t     *testing.T
	pages map[string]string // by continue token
	asked int
}

func (p *paged) List(_ context.Context, list client.ObjectList, options ...client.ListOption) error {
	p.asked++
	require.LessOrEqual(p.t, p.asked, len(p.pages), "asks for pages without end")
	o := (&client.ListOptions{}).ApplyOptions(options)
	return json.Unmarshal([]byte(p.pages[o.Continue]), list)
}

// Nothing of one page is on the next.
func TestPagesOfAList(t *testing.T) {
	p := &paged{t: t, pages: map[string]string{
		"":  `{"metadata":{"continue":"2"},"items":[{"metadata":{"name":"a","annotations":{"k":"v"}},"status":{"syncStatus":"Failed"}}]}`,
		"2": `{"metadata":{"continue":"3"},"items":[{"metadata":{"name":"b"}}]}`,
		"3": `{"metadata":{},"items":[{"metadata":{"name":"c"}}]}`,
	}}
	r := &reader{Reader: p, unread: map[string]string{}}
	var got []v1.SriovNetworkNodeState
	items := func(l *v1.SriovNetworkNodeStateList) []v1.SriovNetworkNodeState { return l.Items }
	require.NoError(t, list(t.Context(), r, "node states", &v1.SriovNetworkNodeStateList{}, &got, items))
	var says []string
	for _, s := range got {
		says = append(says, fmt.Sprint(s.Name, s.Annotations, s.Status.SyncStatus))
	}
	require.Equal(t, []string{"amap[k:v]Failed", "bmap[]", "cmap[]"}, says)
	require.Empty(t, r.unread)
}
