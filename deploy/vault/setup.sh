#!/bin/sh
# What Vault must know so that keyferry can log in and read, by the Vault CLI (OpenBao: `bao` for `vault`). Run it with VAULT_ADDR
# and a token that may do this. Every name can be set from outside; without that they are those of the demo.
#
# Once per cluster give it API_SERVER (as Vault reaches it), API_SERVER_CA (a PEM file), and REVIEWER_JWT (a file with the token of
# reviewer.yaml). For a Vault inside the cluster API_SERVER is enough; it then asks with its own token. For each further
# application leave them out.
set -eu
mount=${MOUNT:-kubernetes} role=${ROLE:-webapp} kv=${KV:-secret} path=${SECRET:-webapp/config}
namespace=${NAMESPACE:-playground} account=${ACCOUNT:-secret-privileged-sa} audience=${AUDIENCE:-vault}

# Once per cluster: who may ask the API server whether a token is good. Without API_SERVER it is left as it is.
if [ -n "${API_SERVER:-}" ]; then
  vault auth list -format=json | grep -q "\"$mount/\"" || vault auth enable -path="$mount" kubernetes
  vault write "auth/$mount/config" kubernetes_host="$API_SERVER" \
    ${API_SERVER_CA:+kubernetes_ca_cert=@"$API_SERVER_CA"} ${REVIEWER_JWT:+token_reviewer_jwt=@"$REVIEWER_JWT"}
fi

# Once per application: what it may read, and whose token stands for it. KV version 2 has `data/` in its paths.
vault policy write "$role" - <<POLICY
path "$kv/data/$path" { capabilities = ["read"] }
POLICY
# The audience is what makes the Pod's token for Vault useless at the API server, and the API server's useless here.
# The TTL is for an agent that was killed and could revoke nothing; one that runs renews its token.
vault write "auth/$mount/role/$role" audience="$audience" \
  bound_service_account_names="$account" bound_service_account_namespaces="$namespace" \
  token_policies="$role" token_ttl=20m
