{{/* Keys that all containers of the agent share. They satisfy Pod Security `restricted`. */}}
{{- define "keyferry.containerBody" -}}
{{- $keyferry := .Subcharts.keyferry | default . -}}
{{- $values := $keyferry.Values -}}
{{- $image := $values.image -}}
{{- $reference := printf "%s:%s" $image.repository ($image.tag | default $keyferry.Chart.AppVersion) -}}
{{- with $image.digest }}{{ $reference = printf "%s@%s" $image.repository . }}{{ end -}}
image: {{ $reference | quote }}
imagePullPolicy: {{ $image.pullPolicy }}
# If the exit code is not 0, `kubectl describe` shows the end of the log.
terminationMessagePolicy: FallbackToLogsOnError
env:
  - {name: KEYFERRY_CONFIG, value: /etc/keyferry/config/config.yaml}
  # Same as in the configuration file; probes use this variable while the configuration file is invalid.
  - {name: KEYFERRY_DIRECTORY, value: /run/keyferry/sensitive}
  {{- if or (eq $values.mode "classic") (and $values.checkpoint (eq $values.mode "sidecar")) }}
  - {name: KEYFERRY_CHECKPOINT, value: /run/keyferry/checkpoint}
  {{- end }}
  - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  - {name: POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
  - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
  {{- $document := include "keyferry.document" . }}
  {{- $own := dict }}
  {{- range $values.env }}{{ $_ := set $own .name true }}{{ end }}
  {{- range $name, $field := dict "NODE_NAME" "spec.nodeName" "POD_IP" "status.podIP" "SERVICE_ACCOUNT" "spec.serviceAccountName" }}
  {{- if and (contains (printf "${%s}" $name) $document) (not (hasKey $own $name)) }}
  - {name: {{ $name }}, valueFrom: {fieldRef: {fieldPath: {{ $field }}}}}
  {{- end }}
  {{- end }}
  {{- with $values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  {{- if not $values.randomUid }}
  runAsUser: {{ int64 $values.runAsUser }}
  runAsGroup: {{ int64 $values.runAsUser }}
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
volumeMounts:
  - {name: keyferry, mountPath: /run/keyferry}
  - {name: keyferry-config, mountPath: /etc/keyferry/config, readOnly: true}
  - {name: keyferry-vault-token, mountPath: /var/run/secrets/vault, readOnly: true}
  {{- if include "keyferry.speaksToApi" . }}
  - {name: keyferry-api-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
  {{- end }}
  {{- if $values.vault.ca.configMap }}
  - {name: keyferry-vault-ca, mountPath: /etc/keyferry/ca, readOnly: true}
  {{- end }}
  {{- if $values.seed.secret }}
  - {name: keyferry-seed, mountPath: /etc/keyferry/seed, readOnly: true}
  {{- end }}
  {{- if and $values.refreshNow.annotations (ne $values.mode "init") }}
  - {name: keyferry-pod, mountPath: /etc/keyferry/pod, readOnly: true}
  {{- end }}
  {{- if and $values.refreshNow.tokenSecret (ne $values.mode "init") }}
  - {name: keyferry-refresh, mountPath: /etc/keyferry/refresh, readOnly: true}
  {{- end }}
  {{- with $values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* The port of `listen`, by name for scrapers; nothing if only this pod can reach it. */}}
{{- define "keyferry.ports" -}}
{{- $values := (.Subcharts.keyferry | default .).Values -}}
{{- $listen := get (include "keyferry.document" . | fromYaml) "listen" | default "" -}}
{{- range $values.env }}{{ if eq .name "KEYFERRY_LISTEN" }}{{ $listen = $listen | default .value }}{{ end }}{{ end -}}
{{- if and $listen (not (regexMatch "^(127\\.|\\[::1\\])" $listen)) -}}
ports:
  - {name: keyferry, containerPort: {{ regexFind "[0-9]+$" $listen }}}
{{- end -}}
{{- end }}

{{- define "keyferry.livenessProbe" -}}
{{- $liveness := (.Subcharts.keyferry | default .).Values.probes.liveness -}}
{{- if $liveness.enabled -}}
livenessProbe:
  exec: {command: [/keyferry, probe, live]}
  periodSeconds: {{ int $liveness.periodSeconds }}
  failureThreshold: {{ int $liveness.failureThreshold }}
{{- end }}
{{- end }}

{{/* The rule by which the agent restarts all containers; needs a `restartPolicy` of the container. */}}
{{- define "keyferry.restartPolicyRules" -}}
{{- if include "keyferry.restartsContainers" . -}}
restartPolicyRules:
  - action: RestartAllContainers
    exitCodes: {operator: In, values: [88]}
{{- end }}
{{- end }}

{{/* Entry for `initContainers`. Put it first, so that later containers can read the files. */}}
{{- define "keyferry.initContainer" -}}
{{- $values := (.Subcharts.keyferry | default .).Values -}}
{{- if $values.enabled -}}
{{- include "keyferry.validate" . -}}
{{- $startup := $values.probes.startup -}}
- name: {{ eq $values.mode "classic" | ternary "keyferry-init" "keyferry" }}
  {{- if eq $values.mode "sidecar" }}
  restartPolicy: Always
  {{- with include "keyferry.restartPolicyRules" . }}
  {{- . | nindent 2 }}
  {{- end }}
  # The application starts after the first set of files is published.
  startupProbe:
    exec: {command: [/keyferry, probe, startup]}
    periodSeconds: {{ int $startup.periodSeconds }}
    failureThreshold: {{ int $startup.failureThreshold }}
  {{- with include "keyferry.livenessProbe" . }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with include "keyferry.ports" . }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- else if eq $values.mode "init" }}
  args: [once, --timeout={{ $values.onceTimeout }}]
  {{- else }}
  args: [once, --timeout={{ $values.onceTimeout }}]
  {{- end }}
  {{- include "keyferry.containerBody" . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Entry for `containers`: the second container of mode `classic`; nothing in other modes. */}}
{{- define "keyferry.container" -}}
{{- $values := (.Subcharts.keyferry | default .).Values -}}
{{- if and $values.enabled (eq $values.mode "classic") -}}
- name: keyferry
  args: [run, --app-container]
  {{- with include "keyferry.restartPolicyRules" . }}
  restartPolicy: Always
  {{- . | nindent 2 }}
  {{- end }}
  {{- with include "keyferry.livenessProbe" . }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with include "keyferry.ports" . }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- include "keyferry.containerBody" . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Entries for `volumes`. */}}
{{- define "keyferry.volumes" -}}
{{- $values := (.Subcharts.keyferry | default .).Values -}}
{{- if $values.enabled -}}
- name: keyferry
  emptyDir: {medium: Memory, sizeLimit: {{ $values.volume.sizeLimit | quote }}}
- name: keyferry-config
  configMap: {name: {{ include "keyferry.fullname" . }}}
# For Vault only: the API server rejects this audience, and Vault's role accepts no other.
- name: keyferry-vault-token
  projected:
    sources:
      - serviceAccountToken: {path: token, audience: {{ $values.auth.audience | quote }}, expirationSeconds: {{ int64 $values.auth.tokenSeconds }}}
{{- if include "keyferry.speaksToApi" . }}
# For the API server only: the same contents as the default token volume of a pod.
- name: keyferry-api-token
  projected:
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3600}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end }}
{{- with $values.vault.ca.configMap }}
- name: keyferry-vault-ca
  configMap: {name: {{ . | quote }}}
{{- end }}
{{- with $values.seed.secret }}
# Optional: the Secret exists only after the first pod has mirrored its files.
- name: keyferry-seed
  secret: {secretName: {{ . | quote }}, optional: true}
{{- end }}
{{- if and $values.refreshNow.annotations (ne $values.mode "init") }}
# The kubelet updates this file within a second after `kubectl annotate`.
- name: keyferry-pod
  downwardAPI: {items: [{path: annotations, fieldRef: {fieldPath: metadata.annotations}}]}
{{- end }}
{{- if and $values.refreshNow.tokenSecret (ne $values.mode "init") }}
- name: keyferry-refresh
  secret: {secretName: {{ $values.refreshNow.tokenSecret | quote }}, items: [{key: token, path: token}]}
{{- end }}
{{- with $values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Entry for `volumeMounts` of the application: the directory that the agent owns and updates. */}}
{{- define "keyferry.volumeMounts" -}}
{{- $values := (.Subcharts.keyferry | default .).Values -}}
{{- if $values.enabled -}}
- {name: keyferry, mountPath: {{ $values.mountPath | quote }}, subPath: sensitive, readOnly: true}
{{- end }}
{{- end }}

{{/* Entries for `env` of the application: variables that the kubelet reads from a file of the agent. */}}
{{- define "keyferry.applicationEnv" -}}
{{- $values := (.Subcharts.keyferry | default .).Values -}}
{{- $from := $values.applicationEnv -}}
{{- $entries := list -}}
{{- if $values.enabled -}}
{{- range $name, $key := $from.variables -}}
{{- $reference := dict "volumeName" "keyferry" "path" (printf "sensitive/%s" $from.file) "key" $key -}}
{{- if has $name $from.optional }}{{ $_ := set $reference "optional" true }}{{ end -}}
{{- $entries = append $entries (dict "name" $name "valueFrom" (dict "fileKeyRef" $reference)) -}}
{{- end -}}
{{- end -}}
{{- with $entries }}{{ toYaml . }}{{ end -}}
{{- end }}

{{/*
Entries for `annotations` of the pod template. Settings of the login take effect with new pods, which test them before old pods
terminate. In mode `init` no agent runs next to the application, so all of it takes effect with new pods.
*/}}
{{- define "keyferry.podAnnotations" -}}
{{- $values := (.Subcharts.keyferry | default .).Values -}}
{{- if $values.enabled -}}
{{- $document := include "keyferry.document" . | fromYaml -}}
{{- if ne $values.mode "init" -}}
{{- $document = dict "auth" $document.auth "vault" (pick $document.vault "address" "namespace") -}}
{{- end -}}
keyferry.dev/config-checksum: {{ $document | toYaml | sha256sum }}
{{- end }}
{{- end }}

{{/* Entry for `readinessGates`. */}}
{{- define "keyferry.readinessGates" -}}
{{- $values := (.Subcharts.keyferry | default .).Values -}}
{{- if and $values.enabled $values.readinessGate -}}
- conditionType: keyferry.dev/SecretsReady
{{- end }}
{{- end }}

{{/* Keys for the pod's `securityContext`: the group of the volumes, if set. */}}
{{- define "keyferry.podSecurityContext" -}}
{{- $values := (.Subcharts.keyferry | default .).Values -}}
{{- if and $values.enabled (not (kindIs "invalid" $values.fsGroup)) -}}
fsGroup: {{ int64 $values.fsGroup }}
{{- end }}
{{- end }}
