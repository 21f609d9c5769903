{{/* The agent's configuration file, as YAML. It contains only values that the user set; the agent has its own defaults. */}}
{{- define "keyferry.document" -}}
{{- $values := (.Subcharts.keyferry | default .).Values -}}
{{- include "keyferry.validate" . -}}
{{- $vault := dict "address" $values.vault.address -}}
{{- with $values.vault.namespace }}{{ $_ := set $vault "namespace" . }}{{ end -}}
{{- with $values.vault.redirectTo }}{{ $_ := set $vault "redirectTo" . }}{{ end -}}
{{- $tls := dict -}}
{{- if $values.vault.ca.configMap }}{{ $_ := set $tls "caFile" (printf "/etc/keyferry/ca/%s" $values.vault.ca.key) }}{{ end -}}
{{- with $values.vault.serverName }}{{ $_ := set $tls "serverName" . }}{{ end -}}
{{- if $tls }}{{ $_ := set $vault "tls" $tls }}{{ end -}}
{{- $auth := dict "method" $values.auth.method "audience" $values.auth.audience "jwtFile" "/var/run/secrets/vault/token" -}}
{{- if eq $values.auth.method "jwt" }}{{ $_ := unset $auth "audience" }}{{ end -}}
{{- with $values.auth.mount }}{{ $_ := set $auth "mount" . }}{{ end -}}
{{- with $values.auth.role }}{{ $_ := set $auth "role" . }}{{ end -}}
{{- if ne (dig "auth" "method" $values.auth.method $values.config) $values.auth.method -}}
{{- /* Other methods have other keys; `config` provides all of them. */ -}}
{{- $auth = dict -}}
{{- end -}}
{{- $sources := dict -}}
{{- range $values.secrets -}}
{{- $name := "" -}}
{{- $source := dict -}}
{{- if kindIs "string" . -}}
{{- $name = trimAll "/" . -}}
{{- $source = dict "path" . -}}
{{- if contains "=" . -}}
{{- $name = (splitn "=" 2 .)._0 | trim -}}
{{- $source = dict "path" ((splitn "=" 2 .)._1 | trim) -}}
{{- end -}}
{{- else -}}
{{- $name = .name -}}
{{- $source = omit . "name" -}}
{{- end -}}
{{- if hasKey $sources $name }}{{ fail (printf "keyferry's values: secrets has %q twice; use name=path to give each secret a unique name" $name) }}{{ end -}}
{{- if and $values.refresh (not (hasKey $source "refresh")) }}{{ $source = merge (dict "refresh" $values.refresh) $source }}{{ end -}}
{{- $_ := set $sources $name $source -}}
{{- end -}}
{{- $document := dict "vault" $vault "auth" $auth "sources" $sources -}}
{{- with $values.outputs }}{{ $_ := set $document "outputs" . }}{{ end -}}
{{- $_ := set $document "directory" (dict "path" "/run/keyferry/sensitive") -}}
{{- if $values.mirror.name -}}
{{- $mirror := dict "type" $values.mirror.type -}}
{{- range $key := list "keys" "labels" "annotations" -}}
{{- with index $values.mirror $key }}{{ $_ := set $mirror $key . }}{{ end -}}
{{- end -}}
{{- $_ := set $document "mirrors" (dict $values.mirror.name $mirror) -}}
{{- end -}}
{{- if $values.seed.secret -}}
{{- $seed := dict "directory" "/etc/keyferry/seed" -}}
{{- if include "keyferry.mirrors" . }}{{ $_ := set $seed "mirror" $values.seed.secret }}{{ end -}}
{{- with $values.seed.after }}{{ $_ := set $seed "after" . }}{{ end -}}
{{- $_ := set $document "seed" $seed -}}
{{- end -}}
{{- if ne $values.mode "init" -}}
{{- $refresh := dict -}}
{{- if $values.refreshNow.annotations }}{{ $_ := set $refresh "annotationsFile" "/etc/keyferry/pod/annotations" }}{{ end -}}
{{- if $values.refreshNow.tokenSecret }}{{ $_ := set $refresh "tokenFile" "/etc/keyferry/refresh/token" }}{{ end -}}
{{- if $refresh }}{{ $_ := set $document "refreshNow" $refresh }}{{ end -}}
{{- end -}}
{{- with $values.notify }}{{ $_ := set $document "notify" . }}{{ end -}}
{{- $conditions := eq (include "keyferry.conditions" .) "true" -}}
{{- $events := eq (include "keyferry.events" .) "true" -}}
{{- $_ := set $document "status" (dict "conditions" $conditions "events" $events) -}}
{{- with include "keyferry.livenessListen" . }}{{ $_ := set $document "listen" . }}{{ end -}}
{{- $document = mergeOverwrite $document (deepCopy $values.config) -}}
{{- if eq $values.mirror.owner "serviceAccount" -}}
{{- range $name, $mirror := $document.mirrors -}}
{{- if not (hasKey $mirror "owner") }}{{ $_ := set $mirror "owner" "serviceAccount" }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $document | toYaml -}}
{{- end }}

{{/* "true" if a notification restarts all containers. */}}
{{- define "keyferry.restartsContainers" -}}
{{- $values := (.Subcharts.keyferry | default .).Values -}}
{{- $found := "" -}}
{{- range $name, $notification := merge (deepCopy ($values.config.notify | default dict)) $values.notify -}}
{{- if $notification.restart }}{{ $found = "true" }}{{ end -}}
{{- end -}}
{{- $found -}}
{{- end }}

{{/*
Listener address for the liveness probe if the user set none. Without a listener, the probe checks only that the process exists,
not that it makes progress. Loopback, so that it is not reachable from outside the pod.
*/}}
{{- define "keyferry.livenessListen" -}}
{{- $values := (.Subcharts.keyferry | default .).Values -}}
{{- $named := $values.config.listen -}}
{{- range $values.env }}{{ if eq .name "KEYFERRY_LISTEN" }}{{ $named = "env" }}{{ end }}{{ end -}}
{{- if and $values.probes.liveness.enabled (ne $values.mode "init") (not $named) -}}
127.0.0.1:8250
{{- end -}}
{{- end }}

{{/* The ConfigMap with the configuration file. The agent reloads it when it changes, without a restart. */}}
{{- define "keyferry.configMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "keyferry.fullname" . }}
  labels:
    {{- include "keyferry.labels" . | nindent 4 }}
data:
  config.yaml: |
    {{- include "keyferry.document" . | nindent 4 }}
{{- end }}
