{{/*
Role and RoleBinding, each rule only with the feature that needs it; nothing where no feature needs one. Why the rules are
so is told in deploy/manifests/rbac.yaml, which a test keeps equal.
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
  # `patch` on a Secret is in effect a right to read it: these names and no other.
  - apiGroups: [""]
    resources: [secrets]
    resourceNames:
      {{- splitList "," . | toYaml | nindent 6 }}
    verbs: [create, patch]
  {{- end }}
  {{- if include "keyferry.conditions" . }}
  # RBAC cannot say "only its own pod": use it together with the policy `keyferry-own-pod-status`.
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
