// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
)

// editOperator puts the values of the chart into the operator's Deployment.
func editOperator(o *object) error {
	spec, err := o.at("spec")
	if err != nil {
		return err
	}
	delete(spec, "replicas")
	spec[o.block("replicas: {{ .Values.operator.replicas }}")] = ""
	pod, err := o.at("spec", "template", "spec")
	if err != nil {
		return err
	}
	c, err := o.container()
	if err != nil {
		return err
	}
	c["image"] = o.value(`include "sriov-network-operator.image" (list . "operator" .Values.images.operator)`)
	for name, template := range map[string]string{
		"RESOURCE_PREFIX":                   ".Values.operator.resourcePrefix",
		"SRIOV_NETWORK_CONFIG_DAEMON_IMAGE": `include "sriov-network-operator.image" (list . "operator" .Values.images.sriovConfigDaemon)`,
		"SRIOV_DEVICE_PLUGIN_IMAGE":         `include "sriov-network-operator.image" (list . "device-plugin" .Values.images.sriovDevicePlugin)`,
		"SRIOV_CNI_IMAGE":                   `include "sriov-network-operator.image" (list . "sriov-cni" .Values.images.sriovCni)`,
		"SRIOV_CNI_BIN_PATH":                ".Values.operator.cniBinPath",
		"CREATE_DEFAULT_CONFIG":             `ternary "false" "true" .Values.sriovOperatorConfig.deploy`,
	} {
		if err := o.setEnv(c, name, template); err != nil {
			return err
		}
	}
	// A variable that extraEnv sets, too, is there once: Helm 4 fails halfway where it is twice.
	var env []any
	for _, e := range c["env"].([]any) {
		unless := o.block(fmt.Sprintf("{{- if not (hasKey (.Values.operator.extraEnv | default dict) %q) }}", e.(map[string]any)["name"]))
		env = append(env, unless, e, o.block("{{- end }}"))
	}
	c["env"] = append(env, o.block(`{{- include "sriov-network-operator.env" . | nindent INDENT }}`))
	c["args"] = append(slices.Clone(c["args"].([]any)), o.block(`{{- include "sriov-network-operator.args" . | nindent INDENT }}`))
	if err := o.setPort(c, "metrics", `include "sriov-network-operator.metricsPort" .`); err != nil {
		return err
	}
	if err := o.orDefault(c, "resources", ".Values.operator.resources"); err != nil {
		return err
	}
	o.ifSet(pod, "nodeSelector", ".Values.operator.nodeSelector")
	for _, key := range []string{"tolerations", "affinity"} {
		if err := o.orDefault(pod, key, ".Values.operator."+key); err != nil {
			return err
		}
	}
	return nil
}

// pullSecrets lets pods of an account pull from registries that ask for a login.
func (o *object) pullSecrets() {
	o.fields[o.block("{{- with .Values.imagePullSecrets }}\nimagePullSecrets:\n{{- range . }}\n  - name: {{ . | quote }}\n{{- end }}\n{{- end }}")] = ""
}

// editMultus puts the values of the chart into the installer's DaemonSet.
func editMultus(o *object) error {
	pod, err := o.at("spec", "template", "spec")
	if err != nil {
		return err
	}
	c, err := o.container()
	if err != nil {
		return err
	}
	c["image"] = o.value(`include "multus-shim.image" .`)
	for name, template := range map[string]string{"cni-bin": ".Values.cniBinPath", "cni-conf": ".Values.cniConfPath"} {
		if err := o.setHostPath(pod, name, template); err != nil {
			return err
		}
	}
	args, ok := c["args"].([]any)
	if !ok {
		return fmt.Errorf("no arguments")
	}
	c["args"] = append(slices.Clone(args), o.block(`{{- include "multus-shim.args" . | nindent INDENT }}`))
	if err := o.orDefault(c, "resources", ".Values.resources"); err != nil {
		return err
	}
	o.ifSet(pod, "nodeSelector", ".Values.nodeSelector")
	o.ifSet(pod, "affinity", ".Values.affinity")
	return o.orDefault(pod, "tolerations", ".Values.tolerations")
}

// setPort makes the number of a port that the manifest has a template.
func (o *object) setPort(container map[string]any, name, template string) error {
	for _, p := range container["ports"].([]any) {
		if port := p.(map[string]any); port["name"] == name {
			delete(port, "containerPort")
			port[o.block("containerPort: {{ "+template+" }}")] = ""
			return nil
		}
	}
	return fmt.Errorf("no port %s", name)
}

func (o *object) setHostPath(pod map[string]any, volume, template string) error {
	for _, v := range pod["volumes"].([]any) {
		if v := v.(map[string]any); v["name"] == volume {
			v["hostPath"].(map[string]any)["path"] = o.value(template)
			return nil
		}
	}
	return fmt.Errorf("no volume %s", volume)
}

// optional is the template of an object that a value asks for: not every cluster can take it.
func (o *object) optional(namespace string) (string, error) {
	section := ".Values.operator.metricsExporter.prometheusOperator"
	switch o.kind() {
	case "ConfigMap":
		section = ".Values.operator.dashboard"
		delete(o.metadata(), "labels")
		o.ifSet(o.metadata(), "labels", section+".labels")
	case "NetworkPolicy":
		section = ".Values.networkPolicy"
	case "ServiceMonitor", "PrometheusRule":
		o.ifSet(o.metadata(), "labels", section+".labels")
	}
	text, err := o.template(namespace)
	return "{{- if " + section + ".enabled }}\n" + text + "{{- end }}\n", err
}
