{{- define "gatewright.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "gatewright.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "gatewright.labels" -}}
{{ include "gatewright.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end }}

{{- define "gatewright.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- /* The namespaces that are served by a Role in each. The operator's own is none of them: whoever may edit there could act
as the operator. */ -}}
{{- define "gatewright.namespaces" -}}
{{- if and (not .Values.watchNamespaces) (not .Values.serveOwnNamespace) -}}
{{- fail "watchNamespaces: with clusterWide false, name the namespaces whose Releases are run" -}}
{{- end -}}
{{- if and (has .Release.Namespace .Values.watchNamespaces) (not .Values.serveOwnNamespace) -}}
{{- fail (printf "watchNamespaces: %s is the operator's own namespace, and whoever may edit there can act as the operator; install it into a namespace of its own (--namespace gatewright-system), or set serveOwnNamespace" .Release.Namespace) -}}
{{- end -}}
{{- .Values.watchNamespaces | default (list .Release.Namespace) | toJson -}}
{{- end }}
