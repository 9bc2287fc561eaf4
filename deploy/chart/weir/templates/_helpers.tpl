{{- define "weir.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The release's name where that says that it is weir's. */}}
{{- define "weir.fullname" -}}
{{- $name := include "weir.name" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 55 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 55 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "weir.selector" -}}
app.kubernetes.io/name: {{ include "weir.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: agent
{{- end }}

{{- define "weir.controllerSelector" -}}
app.kubernetes.io/name: {{ include "weir.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end }}

{{- define "weir.labels" -}}
app.kubernetes.io/name: {{ include "weir.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "weir.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "weir.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | required "serviceAccount.create is false: say the name of one that is there by serviceAccount.name" }}
{{- end }}
{{- end }}

{{- define "weir.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* By whom metrics can be read: see values.yaml. */}}
{{- define "weir.metricsAddress" -}}
{{- $loopback := list "127.0.0.1" "::1" -}}
{{- if and .Values.podMonitor.enabled (has .Values.metrics.address $loopback) -}}
{{ fail (printf "podMonitor.enabled: Prometheus reaches no Pod at metrics.address %s" .Values.metrics.address) }}
{{- end -}}
{{ .Values.metrics.address | default (ternary "0.0.0.0" "127.0.0.1" .Values.podMonitor.enabled) }}
{{- end }}

{{/* Where probes ask for it: the node itself. */}}
{{- define "weir.probeHost" -}}
{{- $address := include "weir.metricsAddress" . -}}
{{ get (dict "0.0.0.0" "127.0.0.1" "::" "::1") $address | default $address }}
{{- end }}

{{/* The names that container networks give to the nodes' interfaces towards Pods. */}}
{{- define "weir.interfaces" -}}
{{- $presets := dict
  "kindnet" (list "veth*")
  "calico" (list "cali*")
  "aws" (list "eni*" "vlan*")
  "flannel" (list "veth*")
  "cilium" (list "lxc*")
-}}
{{- if .Values.interfaces -}}
{{ toYaml .Values.interfaces }}
{{- else if .Values.cni -}}
{{- range get $presets .Values.cni }}
- match: {{ . | quote }}
{{- end }}
{{- else -}}
{{ fail "say which container network the cluster has, by --set cni=kindnet (or calico, aws, flannel, cilium), or name the nodes' interfaces towards Pods by `interfaces`" }}
{{- end }}
{{- end }}

{{- define "weir.config" -}}
# Made by the chart: change its values instead.
interfaces:
{{ include "weir.interfaces" . | trim }}
metrics: {{ printf (ternary "[%s]:%v" "%s:%v" (contains ":" (include "weir.metricsAddress" .))) (include "weir.metricsAddress" .) .Values.metrics.port | quote }}
fastPath: {{ .Values.fastPath | quote }}
otherPorts: {{ .Values.otherPorts }}
kernelLog: {{ .Values.kernelLog | quote }}
hashSeed: {{ .Values.hashSeed }}
flows:
  max: {{ .Values.flows.max | int64 }}
  tcpIdle: {{ .Values.flows.tcpIdle | quote }}
  udpIdle: {{ .Values.flows.udpIdle | quote }}
limits:
  splits: {{ .Values.limits.splits | int64 }}
  endpoints: {{ .Values.limits.endpoints | int64 }}
  tableSlots: {{ .Values.limits.tableSlots | int64 }}
  histograms: {{ .Values.limits.histograms | int64 }}
kubernetes:
  services: {{ .Values.kubernetes.services }}
  istio: {{ .Values.kubernetes.istio }}
  mode: {{ .Values.kubernetes.mode }}
  addresses: {{ toJson .Values.kubernetes.addresses }}
  reports: {pause: {{ .Values.kubernetes.reports.pause }}, renewal: {{ .Values.kubernetes.reports.renewal }}}
{{- end }}
