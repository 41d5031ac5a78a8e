{{- define "peald.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{- define "peald.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "peald.labels" -}}
{{ include "peald.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* The chart's own settings take precedence over config: ports and times must match the other objects. */ -}}
{{- define "peald.config" -}}
{{- $own := dict
  "sse" (dict "addr" ":8080")
  "grpc" (dict "addr" ":9090")
  "rest" (dict "addr" ":9091")
  "drain" (dict "timeout" (printf "%ds" (int .Values.drainSeconds)))
}}
{{- $given := dig "cluster" "mode" "off" .Values.config }}
{{- if .Values.cluster.enabled }}
{{- $cluster := dict
  "mode" "embedded"
  "addr" ":6222"
  "peers" (list (printf "%s-peers:6222" (include "peald.name" .)))
  "dir" "/var/lib/peald"
}}
{{- if .Values.cluster.tlsSecret }}
{{- $_ := set $cluster "tls" (dict
  "cert_file" "/etc/peald-cluster/tls.crt"
  "key_file" "/etc/peald-cluster/tls.key"
  "ca_file" "/etc/peald-cluster/ca.crt"
) }}
{{- end }}
{{- $_ := set $own "cluster" $cluster }}
{{- else if eq (toString $given) "embedded" }}
{{- fail "config.cluster.mode: embedded needs a disk for each pod; set cluster.enabled instead" }}
{{- else if and (gt (int .Values.replicas) 1) (ne (toString $given) "nats") }}
{{- fail (printf "replicas: %d separate daemons would share no streams; set cluster.enabled and cluster.nodes, or config.cluster.mode: nats" (int .Values.replicas)) }}
{{- end }}
{{- mergeOverwrite (deepCopy .Values.config) $own | toYaml }}
{{- end }}
