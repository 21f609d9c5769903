{{/*
Role and RoleBinding, with a rule for each feature that is enabled; nothing if no feature needs one. The comments of
deploy/manifests/rbac.yaml explain the rules; a test compares the two.
*/}}
{{- define "keyferry.rbac" -}}
{{- $values := (.Subcharts.keyferry | default .).Values -}}
{{- if and $values.enabled (include "keyferry.speaksToApi" .) -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ include "keyferry.fullname" . }}
  labels:
    {{- include "keyferry.labels" . | nindent 4 }}
rules:
  {{- with include "keyferry.mirrors" . }}
  # `patch` on a Secret implies read access, so the rule lists exact names.
  - apiGroups: [""]
    resources: [secrets]
    resourceNames:
      {{- splitList "," . | toYaml | nindent 6 }}
    verbs: [create, patch]
  {{- end }}
  {{- if include "keyferry.conditions" . }}
  # RBAC cannot limit this to the agent's own pod. Use it together with the policy `keyferry-own-pod-status`.
  - apiGroups: [""]
    resources: [pods/status]
    verbs: [patch]
  {{- end }}
  {{- if include "keyferry.events" . }}
  - apiGroups: [""]
    resources: [events]
    verbs: [create]
  {{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ include "keyferry.fullname" . }}
  labels:
    {{- include "keyferry.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ include "keyferry.fullname" . }}
subjects:
  - kind: ServiceAccount
    name: {{ include "keyferry.serviceAccountName" . }}
    namespace: {{ .Release.Namespace }}
{{- end }}
{{- end }}
