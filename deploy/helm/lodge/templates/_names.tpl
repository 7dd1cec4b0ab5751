{{- define "lodge.name" -}}
{{- if contains "lodge" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-lodge" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end -}}
{{- end -}}

{{- define "lodge.labels" -}}
app.kubernetes.io/name: lodge
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "lodge.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{- define "lodge.scheme" -}}
{{- if .Values.tls.secret }}HTTPS{{ else }}HTTP{{ end -}}
{{- end -}}

{{- /* A server's configuration; takes root, role and the role's settings. */ -}}
{{- define "lodge.config" -}}
{{- $root := .root -}}
{{- $listen := ternary "tls://0.0.0.0:9420" "0.0.0.0:9420" (ne $root.Values.tls.secret "") -}}
{{- $own := dict
    "data_dir" "/var/lib/lodge"
    "listen" $listen
    "catalog" $root.Values.catalog.url
    "objects" $root.Values.objects.url
    "roles" (list .role) -}}
{{- if $root.Values.tls.secret -}}
{{- $own = merge $own (dict "tls_certificate" "/etc/lodge/tls/tls.crt" "tls_key" "/etc/lodge/tls/tls.key") -}}
{{- end -}}
{{- if $root.Values.objects.options -}}
{{- $own = merge $own (dict "objects_options" $root.Values.objects.options) -}}
{{- end -}}
{{- toToml (merge (dict) .settings $root.Values.settings $own) -}}
{{- end -}}

{{- define "lodge.environment" -}}
env:
  - name: PGPASSWORD
    valueFrom:
      secretKeyRef:
        name: {{ .Values.catalog.passwordSecret.name }}
        key: {{ .Values.catalog.passwordSecret.key }}
{{- with .Values.objects.credentialsSecret }}
envFrom:
  - secretRef:
      name: {{ . }}
{{- end }}
{{- end -}}

{{- define "lodge.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "lodge.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
