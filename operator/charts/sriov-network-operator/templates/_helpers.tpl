{{- define "sriov-network-operator.image" -}}
{{- $root := index . 0 -}}
{{- index . 2 | default (printf "%s/%s:%s" $root.Values.images.registry (index . 1) $root.Chart.AppVersion) -}}
{{- end -}}

{{- define "sriov-network-operator.env" -}}
{{- $o := .Values.operator -}}
{{- $env := list
  (list "SRIOV_INFINIBAND_CNI_IMAGE" .Values.images.ibSriovCni)
  (list "OVS_CNI_IMAGE" .Values.images.ovsCni)
  (list "RDMA_CNI_IMAGE" .Values.images.rdmaCni)
  (list "IMAGE_PULL_SECRETS" (join "," .Values.imagePullSecrets))
  (list "KUBELET_ROOT_DIR" $o.hostPaths.kubelet)
  (list "HOST_STATE_DIR" $o.hostPaths.state)
  (list "HOST_UDEV_DIR" $o.hostPaths.udev)
  (list "HOST_MODPROBE_DIR" $o.hostPaths.modprobe)
  (list "WEBHOOK_URL" $o.admissionControllers.url)
  (list "TLS_MIN_VERSION" $o.tls.minVersion)
  (list "TLS_CIPHER_SUITES" $o.tls.cipherSuites)
  (list "TLS_CURVE_PREFERENCES" $o.tls.curvePreferences)
  (list "USE_EXTERNAL_DRAINER" (ternary "true" "" $o.externalDrainer.enabled))
  (list "STALE_NODE_STATE_CLEANUP_DELAY_MINUTES" (ternary "" (include "sriov-network-operator.digits" $o.staleNodeStateCleanupDelayMinutes) (eq "30" (toString $o.staleNodeStateCleanupDelayMinutes))))
  (list "METRICS_EXPORTER_PORT" (ternary "" (include "sriov-network-operator.digits" $o.metricsExporter.port) (eq 9110 (int $o.metricsExporter.port))))
-}}
{{- range $env }}
{{- if and (index . 1) (not (hasKey ($o.extraEnv | default dict) (index . 0))) }}
- name: {{ index . 0 }}
  value: {{ index . 1 | quote }}
{{- end }}
{{- end }}
{{- range $name, $value := $o.extraEnv }}
- name: {{ $name | quote }}
{{- if kindIs "map" $value }}
  {{- toYaml $value | nindent 2 }}
{{- else }}
  value: {{ include "sriov-network-operator.text" $value }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* A scalar as a text; a large number stays in digits. */}}
{{- define "sriov-network-operator.digits" -}}
{{- kindIs "float64" . | ternary (toJson .) (toString .) -}}
{{- end -}}

{{- define "sriov-network-operator.text" -}}
{{- include "sriov-network-operator.digits" . | quote -}}
{{- end -}}

{{- define "sriov-network-operator.texts" -}}
{{- range $key, $value := . }}
{{ $key | quote }}: {{ include "sriov-network-operator.text" $value }}
{{- end }}
{{- end -}}

{{- define "sriov-network-operator.args" -}}
{{- with .Values.operator.metricsBindAddress }}
- {{ printf "-metrics-bind-address=%s" . | quote }}
{{- end }}
{{- end -}}

{{- define "sriov-network-operator.metricsPort" -}}
{{- regexFind "[0-9]+$" .Values.operator.metricsBindAddress | int | default 8080 -}}
{{- end -}}
