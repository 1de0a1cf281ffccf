{{/* Names. Where the release is called like the chart, objects are called so, too: the documents' commands fit. */}}
{{- define "vsf-safety.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "vsf-safety" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-vsf-safety" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "vsf-safety.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "vsf-safety.fullname" .) -}}
{{- end -}}

{{- define "vsf-safety.selectorLabels" -}}
app.kubernetes.io/name: vsf-safety
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "vsf-safety.labels" -}}
{{ include "vsf-safety.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "vsf-safety.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}
{{- end -}}

{{/* Every name by which callers without a token may write the Service; a JSON list. */}}
{{- define "vsf-safety.hosts" -}}
{{- $name := include "vsf-safety.fullname" . -}}
{{- $inNamespace := printf "%s.%s" $name .Release.Namespace -}}
{{- $own := list $name $inNamespace (printf "%s.svc" $inNamespace) (printf "%s.svc.%s" $inNamespace .Values.clusterDomain) -}}
{{- $listen := .Values.config.listen | default dict -}}
{{- concat $own ($listen.hosts | default list) | uniq | toJson -}}
{{- end -}}

{{/* `tls` may be absent: `helm upgrade --reuse-values` from a chart that did not know it brings no defaults of this one. */}}
{{- define "vsf-safety.tlsSecret" -}}
{{- (.Values.tls | default dict).secretName | default "" -}}
{{- end -}}

{{- define "vsf-safety.tlsCaKey" -}}
{{- $tls := .Values.tls | default dict -}}
{{- ternary $tls.caKey "ca.crt" (hasKey $tls "caKey") -}}
{{- end -}}

{{/* What callers write before the Service's name. */}}
{{- define "vsf-safety.scheme" -}}
{{- ternary "https" "http" (ne (include "vsf-safety.tlsSecret" .) "") -}}
{{- end -}}

{{/* Where the certificate is mounted: a folder, whose files the kubelet replaces; those of a subPath it would not. */}}
{{- define "vsf-safety.tlsFolder" -}}
/run/secrets/vsf-safety-tls
{{- end -}}

{{/* The service's configuration: what the values say, and what follows from the chart itself. */}}
{{- define "vsf-safety.config" -}}
{{- $listen := dict "hosts" (include "vsf-safety.hosts" . | fromJsonArray) -}}
{{- if include "vsf-safety.tlsSecret" . -}}
{{- $folder := include "vsf-safety.tlsFolder" . -}}
{{- $_ := set $listen "tls" (dict "certFile" (printf "%s/tls.crt" $folder) "keyFile" (printf "%s/tls.key" $folder)) -}}
{{- end -}}
{{- $own := dict
  "listen" $listen
  "stateDir" "/var/lib/vsf-safety/state"
  "kubernetes" (dict "enabled" true "namespace" .Release.Namespace "namespaces" .Values.workloadNamespaces) -}}
{{- mergeOverwrite (deepCopy .Values.config) $own | toYaml -}}
{{- end -}}

{{/* The objects of a file with plain manifests, as JSON: {items: [...]}. */}}
{{- define "vsf-safety.manifests" -}}
{{- $items := list -}}
{{- range regexSplit "(?m)^---[ \t]*$" . -1 -}}
{{- $items = append $items (fromYaml .) -}}
{{- end -}}
{{- dict "items" $items | toJson -}}
{{- end -}}

{{/* What one release of the chart must not be. */}}
{{- define "vsf-safety.check" -}}
{{- if has .Release.Namespace .Values.workloadNamespaces -}}
{{- fail (printf "workloadNamespaces lists %s, the namespace of the release: whoever may write there may undo a stop. Install the chart in a namespace of its own." .Release.Namespace) -}}
{{- end -}}
{{- if and (eq (.Values.config.source | default "") "prometheus") (not (.Values.config.prometheus | default dict).url) -}}
{{- fail "config.source is prometheus, and config.prometheus.url does not say where it is." -}}
{{- end -}}
{{- end -}}
