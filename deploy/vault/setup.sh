#!/bin/sh
# Configures Vault so that keyferry can log in and read, using the Vault CLI (for OpenBao, replace `vault` with `bao`). Set
# VAULT_ADDR and a token with permission to make these changes. Each name can be set by a variable; the defaults are the demo's.
#
# Once per cluster, also set API_SERVER (its URL as seen from Vault), API_SERVER_CA (a PEM file), and REVIEWER_JWT (a file with the
# token from reviewer.yaml). If Vault runs inside the cluster, API_SERVER is enough: Vault then uses its own ServiceAccount token.
# Leave these variables unset when you add further applications.
set -eu
mount=${MOUNT:-kubernetes} role=${ROLE:-webapp} kv=${KV:-secret} path=${SECRET:-webapp/config}
namespace=${NAMESPACE:-playground} account=${ACCOUNT:-secret-privileged-sa} audience=${AUDIENCE:-vault}

# Once per cluster: how Vault verifies ServiceAccount tokens with the API server. Skipped if API_SERVER is unset.
if [ -n "${API_SERVER:-}" ]; then
  vault auth list -format=json | grep -q "\"$mount/\"" || vault auth enable -path="$mount" kubernetes
  vault write "auth/$mount/config" kubernetes_host="$API_SERVER" \
    ${API_SERVER_CA:+kubernetes_ca_cert=@"$API_SERVER_CA"} ${REVIEWER_JWT:+token_reviewer_jwt=@"$REVIEWER_JWT"}
fi

# Once per application: a policy for its path, and a role for its ServiceAccount. KV version 2 has `data/` in its API paths.
vault policy write "$role" - <<POLICY
path "$kv/data/$path" { capabilities = ["read"] }
POLICY
# The audience keeps the two tokens apart: the API server rejects the token for Vault, and Vault rejects the one for the API server.
# The TTL limits the token of an agent that was killed and could not revoke it. A running agent renews its token.
vault write "auth/$mount/role/$role" audience="$audience" \
  bound_service_account_names="$account" bound_service_account_namespaces="$namespace" \
  token_policies="$role" token_ttl=20m
