{{- define "multus-shim.image" -}}
{{- .Values.image | default (printf "sriovkit/multus-shim:%s" .Chart.AppVersion) -}}
{{- end -}}

{{- define "multus-shim.args" -}}
{{- if ne .Values.cniConfPath "/etc/cni/net.d" }}
- {{ printf "-cni-conf-dir-host=%s" .Values.cniConfPath | quote }}
{{- end }}
{{- if ne .Values.kubeletPath "/var/lib/kubelet" }}
- {{ printf "-kubelet-dir=%s" .Values.kubeletPath | quote }}
{{- end }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}
