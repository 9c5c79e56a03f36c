// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	clienttesting "k8s.io/client-go/testing"
)

// asDriver in the environment makes the test's program sriovdra itself.
const asDriver = "SRIOVKIT_TEST_AS_SRIOVDRA"

func TestMain(m *testing.M) {
	if os.Getenv(asDriver) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// command is sriovdra as a process of its own, with the fake API server by HTTP.
func (w *world) command() (cmd *exec.Cmd, healthSocket string) {
	w.Helper()
	if w.kubeconfig == "" {
		server := httptest.NewServer(overHTTP{w})
		w.Cleanup(server.Close)
		w.kubeconfig = filepath.Join(w.dir, "kubeconfig")
		require.NoError(w, os.WriteFile(w.kubeconfig, []byte(fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "c",
			"clusters": [{"name": "c", "cluster": {"server": %q}}], "contexts": [{"name": "c", "context": {"cluster": "c"}}]}`, server.URL)), 0o600))
	}
	args, health := w.args()
	cmd = exec.Command(os.Args[0], append(args, "-kubeconfig", w.kubeconfig)...)
	cmd.Env = append(os.Environ(), asDriver+"=1")
	if w.fake != nil { // which has no such lists
		cmd.Env = append(cmd.Env, "KUBE_FEATURE_WatchListClient=false")
	}
	return cmd, health
}

// overHTTP is the fake API server as far as the driver uses one.
type overHTTP struct{ w *world }

// paths of objects: group and version, namespace, resource, name, subresource.
var paths = regexp.MustCompile(`^/(?:api|apis/([^/]+))/(v1)(?:/namespaces/([^/]+))?/([a-z]+)(?:/([^/]+))?(?:/(status))?$`)

func (h overHTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := paths.FindStringSubmatch(r.URL.Path)
	if at == nil {
		http.NotFound(w, r)
		return
	}
	resource := schema.GroupVersionResource{Group: at[1], Version: at[2], Resource: at[4]}
	if r.URL.Query().Get("watch") != "" {
		h.watch(w, r, resource, at[3])
		return
	}
	out, err := h.act(r, resource, at[3], at[5], at[6])
	var status apierrors.APIStatus
	code := http.StatusOK
	if errors.As(err, &status) {
		s := status.Status()
		out, code = &s, int(s.Code)
	} else if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(encode(out))
}

// encode writes a copy: the codec changes what it writes, and the fake hands out its own.
func encode(o runtime.Object) []byte {
	text, err := runtime.Encode(scheme.Codecs.LegacyCodec(corev1.SchemeGroupVersion, resourceapi.SchemeGroupVersion), o.DeepCopyObject())
	if err != nil {
		panic(err) // the test's own objects
	}
	return text
}

func (h overHTTP) act(r *http.Request, resource schema.GroupVersionResource, namespace, name, subresource string) (runtime.Object, error) {
	kind := schema.GroupVersionKind{Group: resource.Group, Version: resource.Version, Kind: "ResourceSlice"} // nothing else is listed
	var object runtime.Object
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		if object, _, err = scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil); err != nil {
			return nil, err
		}
	}
	var action clienttesting.Action
	switch r.Method {
	case http.MethodPost:
		action = clienttesting.NewCreateActionWithOptions(resource, namespace, object, metav1.CreateOptions{DryRun: r.URL.Query()["dryRun"]})
	case http.MethodPut:
		action = clienttesting.NewUpdateSubresourceAction(resource, subresource, namespace, object)
	case http.MethodDelete:
		action = clienttesting.NewDeleteAction(resource, namespace, name)
	default:
		if action = clienttesting.NewGetAction(resource, namespace, name); name == "" {
			action = clienttesting.NewListAction(resource, kind, namespace, metav1.ListOptions{})
		}
	}
	return h.w.fake.Invokes(action, &metav1.Status{})
}

func (h overHTTP) watch(w http.ResponseWriter, r *http.Request, resource schema.GroupVersionResource, namespace string) {
	changes, err := h.w.fake.InvokesWatch(clienttesting.NewWatchAction(resource, namespace, metav1.ListOptions{}))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer changes.Stop()
	w.Header().Set("Content-Type", "application/json")
	for {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			return
		case e := <-changes.ResultChan():
			if json.NewEncoder(w).Encode(metav1.WatchEvent{Type: string(e.Type), Object: runtime.RawExtension{Raw: encode(e.Object)}}) != nil {
				return
			}
		}
	}
}
