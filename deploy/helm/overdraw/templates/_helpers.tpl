{{- define "overdraw.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "overdraw.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "overdraw.labels" -}}
{{ include "overdraw.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- end -}}

{{- define "overdraw.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* A number of a values file is a float64: 4000000 would become 4e+06, which is no whole number to Overdraw. */}}
{{- define "overdraw.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{- define "overdraw.environment" -}}
{{- range $name, $value := .Values.settings }}
{{- if not (kindIs "invalid" $value) }}
- name: OVERDRAW_{{ upper $name }}
  value: {{ include "overdraw.text" $value | quote }}
{{- end }}
{{- end }}
{{- range $name, $reference := .Values.secrets }}
- name: OVERDRAW_{{ upper $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $reference.name }}
      key: {{ $reference.key }}
{{- end }}
{{- end -}}

{{/* What every pod of ours has in common: no rights, nothing to write to but a small /tmp. */}}
{{- define "overdraw.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false # else a Service called overdraw-… becomes OVERDRAW_…, an unknown setting
securityContext:
  runAsNonRoot: true
  runAsUser: 65534
  runAsGroup: 65534
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
  {{- with .Values.filesConfigMap }}
  - name: files
    configMap: {name: {{ . }}}
  {{- end }}
{{- end -}}

{{- define "overdraw.container" -}}
image: {{ include "overdraw.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if .Values.filesConfigMap }}
  - {name: files, mountPath: /etc/overdraw, readOnly: true}
  {{- end }}
{{- end -}}

{{/* Fails with what to do; it is included by the StatefulSet alone. */}}
{{- define "overdraw.check" -}}
{{- $partitions := int .Values.settings.partitions -}}
{{- range $server := splitList "," .Values.settings.broker -}}
{{- if not (regexMatch "^.+:[0-9]+$" (trim $server)) -}}
{{- fail (printf "settings.broker has %q: it must be host:port, or several separated by commas" $server) -}}
{{- end -}}
{{- end -}}
{{- if .Values.autoscaling.enabled -}}
{{- if gt (int .Values.autoscaling.maxReplicas) $partitions -}}
{{- fail (printf "autoscaling.maxReplicas is %d, and settings.partitions %d: a worker without a partition has nothing to do; lower maxReplicas" (int .Values.autoscaling.maxReplicas) $partitions) -}}
{{- end -}}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas is %d, above maxReplicas %d: lower it" (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- else if gt (int .Values.replicas) $partitions -}}
{{- fail (printf "replicas is %d, and settings.partitions %d: a worker without a partition has nothing to do; lower replicas" (int .Values.replicas) $partitions) -}}
{{- end -}}
{{- end -}}
