{{/*
Every template of this chart is called with the context of the including chart. In a chart that depends on keyferry,
`.Subcharts.keyferry` is the context of this chart with its defaults merged in. Installed on its own, the chart is its own
context. So each template starts with: $keyferry := .Subcharts.keyferry | default .
*/}}

{{/* Name of the objects that this chart creates. */}}
{{- define "keyferry.fullname" -}}
{{- $keyferry := .Subcharts.keyferry | default . -}}
{{- $own := printf "%s-keyferry" (.Release.Name | trunc 54 | trimSuffix "-") -}}
{{- $keyferry.Values.fullnameOverride | default (ternary .Release.Name $own (eq .Release.Name "keyferry")) -}}
{{- end }}

{{- define "keyferry.labels" -}}
{{- $keyferry := .Subcharts.keyferry | default . -}}
app.kubernetes.io/name: keyferry
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ $keyferry.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: keyferry-{{ $keyferry.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Name of the ServiceAccount for the application's pods; `default` if this chart would create it but is disabled. */}}
{{- define "keyferry.serviceAccountName" -}}
{{- $values := (.Subcharts.keyferry | default .).Values -}}
{{- if and $values.serviceAccount.create (not $values.enabled) -}}
default
{{- else -}}
{{- $values.serviceAccount.name | default (ternary .Release.Name "default" $values.serviceAccount.create) -}}
{{- end -}}
{{- end }}

{{/* Names of the mirrored Secrets, comma-separated. */}}
{{- define "keyferry.mirrors" -}}
{{- $values := (.Subcharts.keyferry | default .).Values -}}
{{- $names := keys ($values.config.mirrors | default dict) -}}
{{- if $values.mirror.name }}{{ $names = append $names $values.mirror.name }}{{ end -}}
{{- $names | uniq | sortAlpha | join "," -}}
{{- end }}

{{/* "true" if conditions are written. `config` takes precedence, as it does in the configuration file. */}}
{{- define "keyferry.conditions" -}}
{{- $values := (.Subcharts.keyferry | default .).Values -}}
{{- $status := $values.config.status | default dict -}}
{{- if hasKey $status "conditions" | ternary $status.conditions (or $values.conditions $values.readinessGate) }}true{{ end -}}
{{- end }}

{{/* "true" if Events are recorded. */}}
{{- define "keyferry.events" -}}
{{- $values := (.Subcharts.keyferry | default .).Values -}}
{{- $status := $values.config.status | default dict -}}
{{- if hasKey $status "events" | ternary $status.events $values.events }}true{{ end -}}
{{- end }}

{{/* "true" if the agent calls the API server and needs a token for it. */}}
{{- define "keyferry.speaksToApi" -}}
{{- if or (include "keyferry.mirrors" .) (include "keyferry.conditions" .) (include "keyferry.events" .) }}true{{ end -}}
{{- end }}

{{/* "true" if the release contains only admission policies: at least one is enabled, and no application values are set. */}}
{{- define "keyferry.policiesOnly" -}}
{{- $values := (.Subcharts.keyferry | default .).Values -}}
{{- $policies := $values.policies -}}
{{- $application := or $values.vault.address $values.auth.role $values.secrets $values.config -}}
{{- if and (or $policies.ownPodStatus $policies.secretWriters $policies.noSecretMounts) (not $application) }}true{{ end -}}
{{- end }}

{{/* Fails with one message that lists every missing or invalid value. */}}
{{- define "keyferry.validate" -}}
{{- $keyferry := .Subcharts.keyferry | default . -}}
{{- $values := $keyferry.Values -}}
{{- $config := $values.config -}}
{{- $wrong := list -}}
{{- if not (or $values.vault.address (dig "vault" "address" "" $config)) }}
{{- $wrong = append $wrong "vault.address is missing: set the address of Vault, such as https://vault.example.com:8200" }}
{{- end }}
{{- if and (eq $values.auth.method "kubernetes") (not (or $values.auth.role (dig "auth" "role" "" $config))) (not (dig "auth" "method" "" $config)) }}
{{- $wrong = append $wrong "auth.role is missing: set the role of Vault's auth method" }}
{{- end }}
{{- if not (or $values.secrets $config.sources) }}
{{- $wrong = append $wrong "secrets is empty: set at least one path, such as secret/webapp/config" }}
{{- end }}
{{- if and (eq $values.mode "sidecar") (semverCompare "<1.29.0-0" .Capabilities.KubeVersion.Version) }}
{{- $wrong = append $wrong (printf "mode sidecar needs Kubernetes 1.29 or later, but this cluster runs %s; set mode: classic" .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- if include "keyferry.restartsContainers" . }}
{{- if eq $values.mode "init" }}
{{- $wrong = append $wrong "notify: restart: containers needs mode sidecar or classic, because no agent runs next to the application in mode init" }}
{{- else if and (eq $values.mode "sidecar") (not $values.checkpoint) }}
{{- $wrong = append $wrong "notify: restart: containers needs checkpoint: true, so that a restart causes no login and no new credentials" }}
{{- end }}
{{- if semverCompare "<1.36.0-0" .Capabilities.KubeVersion.Version }}
{{- $wrong = append $wrong (printf "notify: restart: containers needs Kubernetes 1.36 or later, but this cluster runs %s" .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- end }}
{{- if dig "directory" "path" "" $config }}
{{- $wrong = append $wrong "config.directory.path is fixed, because the volume mounts depend on it; set mountPath for the directory of the application" }}
{{- end }}
{{- if and $values.readinessGate (not (include "keyferry.conditions" .)) }}
{{- $wrong = append $wrong "readinessGate waits for a condition that config.status.conditions disables" }}
{{- end }}
{{- with $values.applicationEnv }}
{{- if .variables }}
{{- $files := list }}
{{- range $config.outputs | default $values.outputs }}
{{- if and (eq (.format | default "") "env-file") .file }}{{ $files = append $files .file }}{{ end }}
{{- end }}
{{- if not (has .file $files) }}
{{- $wrong = append $wrong "applicationEnv.file is not the file of an output with format: env-file" }}
{{- end }}
{{- if semverCompare "<1.35.0-0" $.Capabilities.KubeVersion.Version }}
{{- $wrong = append $wrong (printf "applicationEnv needs Kubernetes 1.35 or later, but this cluster runs %s" $.Capabilities.KubeVersion.Version) }}
{{- end }}
{{- end }}
{{- range .optional }}
{{- if not (hasKey $values.applicationEnv.variables .) }}
{{- $wrong = append $wrong (printf "applicationEnv.optional contains %s, which is not in applicationEnv.variables" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- if $wrong }}
{{- fail (printf "\nkeyferry's values:\n  - %s" (join "\n  - " $wrong)) }}
{{- end }}
{{- end }}
