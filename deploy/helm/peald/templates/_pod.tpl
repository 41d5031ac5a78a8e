{{- define "peald.pod" -}}
metadata:
  labels:
    {{- include "peald.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    checksum/config: {{ include "peald.config" . | sha256sum }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add .Values.preStopSeconds .Values.drainSeconds 10 }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    {{- if not (or .Values.platformIDs (.Capabilities.APIVersions.Has "security.openshift.io/v1")) }}
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    {{- end }}
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: peald
      image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [--config, /etc/peald/peald.yaml]
      envFrom:
        - secretRef:
            name: {{ required "existingSecret is required: the name of a Secret with PEALD_CONTROL_TOKENS" .Values.existingSecret }}
      ports:
        - {name: sse, containerPort: 8080}
        - {name: grpc, containerPort: 9090}
        - {name: rest, containerPort: 9091}
        {{- if .Values.cluster.enabled }}
        - {name: peers, containerPort: 6222}
        {{- end }}
      startupProbe:
        httpGet: {path: /healthz, port: rest}
        periodSeconds: 1
        failureThreshold: {{ ternary 120 60 .Values.cluster.enabled }}
      livenessProbe:
        httpGet: {path: /healthz, port: rest}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: rest}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      lifecycle:
        preStop:
          sleep:
            seconds: {{ .Values.preStopSeconds }}
      resources: {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        - {name: config, mountPath: /etc/peald, readOnly: true}
        {{- if .Values.cluster.enabled }}
        - {name: log, mountPath: /var/lib/peald}
        {{- end }}
        {{- if and .Values.cluster.enabled .Values.cluster.tlsSecret }}
        - {name: cluster-tls, mountPath: /etc/peald-cluster, readOnly: true}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "peald.name" . }}
    {{- if and .Values.cluster.enabled .Values.cluster.tlsSecret }}
    - name: cluster-tls
      secret:
        secretName: {{ .Values.cluster.tlsSecret }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints: {{- toYaml . | nindent 4 }}
  {{- else }}
  {{- if .Values.cluster.enabled }}
  topologySpreadConstraints: {{- include "peald.spread" . | nindent 4 }}
  {{- end }}
  {{- end }}
{{- end }}

{{- /* At most one node per machine where there are enough machines, so that the
loss of a machine costs only one replica of the event log. Cordoned machines
don't count; otherwise their pods could not be rescheduled. */ -}}
{{- define "peald.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: DoNotSchedule
  nodeTaintsPolicy: Honor
  labelSelector:
    matchLabels: {{- include "peald.selector" . | nindent 6 }}
- maxSkew: 1
  topologyKey: topology.kubernetes.io/zone
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "peald.selector" . | nindent 6 }}
{{- end }}
