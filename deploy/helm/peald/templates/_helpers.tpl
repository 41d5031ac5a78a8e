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

{{- /* What the chart decides wins over config: ports and times have to match the rest. */ -}}
{{- define "peald.config" -}}
{{- $own := dict
  "sse" (dict "addr" ":8080")
  "grpc" (dict "addr" ":9090")
  "rest" (dict "addr" ":9091")
  "drain" (dict "timeout" (printf "%ds" (int .Values.drainSeconds)))
}}
{{- mergeOverwrite (deepCopy .Values.config) $own | toYaml }}
{{- end }}
