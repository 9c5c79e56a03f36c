// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
)

// attachment is a VF that the CNI plugin is asked to give to a namespace.
type attachment struct {
	kit  *Kit
	id   string
	pod  *pod
	conf map[string]any
}

// picture is what of a VF the plugin has to bring back.
type picture struct {
	name, mac string
	mtu       int
	up        bool
	admin     vfstate.State
}

// attachment0 is of VF 0 with everything that the driver has taken so far.
func (k *Kit) attachment0() (*attachment, error) {
	if _, err := os.Stat(k.Plugin); errors.Is(err, fs.ErrNotExist) {
		return nil, skip("there is no " + k.Plugin + " (-plugin)")
	} else if err != nil {
		return nil, err
	}
	p, err := newPod()
	if err != nil {
		return nil, err
	}
	conf := map[string]any{
		"cniVersion": "1.0.0", "name": "sriov-conformance", "type": "sriov", "deviceID": k.pf.VFs[0].Address.String(),
		"mac": "02:00:88:b5:00:05", "mtu": 1400,
	}
	for setting, values := range map[string]map[string]any{
		"VLAN": {"vlan": 100}, "trust": {"trust": "on"}, "spoof check off": {"spoofchk": "off"},
	} {
		if k.report.verdict(settingPrefix+setting) == Pass {
			for key, value := range values {
				conf[key] = value
			}
		}
	}
	return &attachment{kit: k, id: fmt.Sprintf("%064x", time.Now().UnixNano()), pod: p, conf: conf}, nil
}

// command is one run of the plugin.
func (a *attachment) command(ctx context.Context, command string, more map[string]any) (*exec.Cmd, error) {
	conf := map[string]any{}
	for _, m := range []map[string]any{a.conf, more} {
		for key, value := range m {
			conf[key] = value
		}
	}
	stdin, err := json.Marshal(conf)
	if err != nil {
		return nil, err
	}
	netns := ""
	if a.pod.file != nil {
		netns = a.pod.path()
	}
	cmd := exec.CommandContext(ctx, a.kit.Plugin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the kit, which takes the VF back then
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID="+a.id, "CNI_NETNS="+netns,
		"CNI_IFNAME=net1", "CNI_PATH="+filepath.Dir(a.kit.Plugin), "CNI_ARGS=")
	return cmd, nil
}

// run runs the plugin and returns what it printed.
func (a *attachment) run(ctx context.Context, command string, more map[string]any) (json.RawMessage, error) {
	cmd, err := a.command(ctx, command, more)
	if err != nil {
		return nil, err
	}
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", command, err, strings.TrimSpace(string(out)))
	}
	return out, nil
}

// delTimeout is many times what a DEL takes.
const delTimeout = time.Minute

// del takes the VF back, also when the kit is stopped: else the plugin's records would stay.
func (a *attachment) del(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), delTimeout)
	defer cancel()
	_, err := a.run(ctx, "DEL", nil)
	return err
}

// look is the VF as the host shows it.
func (k *Kit) look() (picture, error) {
	l, err := k.links.ByParent(k.pf.VFs[0].Address)
	if err != nil {
		return picture{}, err
	}
	p := picture{l.Name, l.MAC.String(), l.MTU, l.Up(), vfstate.State{}}
	p.admin, err = k.links.VFState(k.uplink.Index, 0)
	if errors.Is(err, link.ErrNoVF) && k.report.verdict("reports of VFs") == Refused {
		err = nil
	}
	return p, err
}

// lookNow waits for a VF that a reset has out of sight.
func (k *Kit) lookNow(ctx context.Context) (p picture, err error) {
	err = until(ctx, k.Patience, func() error {
		p, err = k.look()
		return err
	})
	return p, err
}

// same waits until the VF is as it was: a reset may still be going on.
func (k *Kit) same(ctx context.Context, was picture) error {
	return until(ctx, k.Patience, func() error {
		now, err := k.look()
		if err != nil {
			return fmt.Errorf("after DEL: %w", err)
		}
		diff := vfstate.Diff(now.admin, was.admin).Split()
		now.admin, was.admin = vfstate.State{}, vfstate.State{}
		var wrong []string
		for _, d := range diff {
			wrong = append(wrong, fmt.Sprintf("%s was %s", d.Attr, d.Value))
		}
		if fmt.Sprint(now) != fmt.Sprint(was) {
			wrong = append(wrong, fmt.Sprintf("interface was %s, MAC %s, MTU %d, up %t and is %s, MAC %s, MTU %d, up %t",
				was.name, was.mac, was.mtu, was.up, now.name, now.mac, now.mtu, now.up))
		}
		if len(wrong) > 0 {
			return fmt.Errorf("the VF is not as it was after DEL: %s", strings.Join(wrong, ", "))
		}
		return nil
	})
}

// tried is an attachment of the first VF, and the VF as it was before.
type tried struct {
	*attachment
	was picture
}

// attached is a check with an attachment, whose namespace ends with it.
func (k *Kit) attached(check func(context.Context, tried) error) func(context.Context) error {
	return func(ctx context.Context) error {
		a, err := k.attachment0()
		if err != nil {
			return err
		}
		defer a.pod.close()
		was, err := k.lookNow(ctx)
		if err != nil {
			return err
		}
		return check(ctx, tried{a, was})
	}
}

// tryPlugin gives a VF to a namespace and takes it back.
func (k *Kit) tryPlugin(ctx context.Context, a tried) error {
	result, err := a.run(ctx, "ADD", nil)
	if err != nil {
		delErr := a.del(ctx)
		return errors.Join(err, delErr)
	}
	l, err := a.pod.links.ByName("net1")
	if err == nil && (l.MAC.String() != a.conf["mac"] || l.MTU != a.conf["mtu"] || !l.Up()) {
		err = fmt.Errorf("net1 has MAC %s, MTU %d, up %t; want %s, %d, true", l.MAC, l.MTU, l.Up(), a.conf["mac"], a.conf["mtu"])
	}
	_, checkErr := a.run(ctx, "CHECK", map[string]any{"prevResult": result})
	delErr := a.del(ctx)
	if err = errors.Join(err, checkErr, delErr); err != nil {
		return err
	}
	return k.same(ctx, a.was)
}

// tryPluginNamespaceGone ends the namespace before DEL, as a pod that died does.
func (k *Kit) tryPluginNamespaceGone(ctx context.Context, a tried) error {
	_, err := a.run(ctx, "ADD", nil)
	a.pod.close()
	if err == nil {
		err = k.awaitInterface(ctx, k.pf.VFs[0].Address)
	}
	delErr := a.del(ctx)
	if err = errors.Join(err, delErr); err != nil {
		return err
	}
	return k.same(ctx, a.was)
}

// tryPluginKills kills the plugin at instants all over an ADD; DEL has to bring the VF
// back from whatever is left.
func (k *Kit) tryPluginKills(ctx context.Context, a tried) error {
	if k.Kills < 1 {
		return skip("-kills is 0")
	}
	begun := time.Now()
	_, err := a.run(ctx, "ADD", nil)
	took := time.Since(begun)
	delErr := a.del(ctx)
	if err = errors.Join(err, delErr); err != nil {
		return err
	}
	for i := range k.Kills {
		after := took * time.Duration(i) / time.Duration(k.Kills)
		if err := a.kill(ctx, after); err != nil {
			return err
		}
		if err := a.del(ctx); err != nil {
			return fmt.Errorf("ADD killed after %s: %w", after, err)
		}
		if err := k.same(ctx, a.was); err != nil {
			return fmt.Errorf("ADD killed after %s: %w", after, err)
		}
	}
	return nil
}

// kill starts an ADD and kills it after a while, if it still runs.
func (a *attachment) kill(ctx context.Context, after time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, after)
	defer cancel()
	cmd, err := a.command(ctx, "ADD", nil)
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil && ctx.Err() == nil {
		return err
	}
	_ = cmd.Wait() // killed, or done before that
	return nil
}
