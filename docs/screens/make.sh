#!/usr/bin/env bash
# Creates the images in this directory from a live run in the test cluster (docs/testbed.md): the output of kubectl for the demo,
# the effects of a changed password in Vault, and the demo's web page. Needs root. Takes about two minutes.
#   docs/screens/make.sh
# Uses a running cluster and leaves it running. Debian: apt-get install chromium fonts-inter fonts-jetbrains-mono python3-venv
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."

say() { echo "screens: $*" >&2; }
fail() { say "$*" && exit 1; }

cluster() { cargo run --locked --quiet --example cluster -- "$@"; }

work=$(mktemp -d) started="" made="" background=""
clean() {
  [ -z "$background" ] || kill "$background" 2>/dev/null || true
  if [ -n "$started" ]; then
    cluster down
  elif [ -n "$made" ]; then
    kubectl delete namespace playground --wait=false
  fi
  rm -rf "$work"
}
trap clean EXIT

command -v chromium >/dev/null || fail "chromium is missing; Debian: apt-get install chromium"
tools=${XDG_CACHE_HOME:-$HOME/.cache}/keyferry/tools/screens
[ -x "$tools/bin/pip" ] || python3 -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check rich==15.0.0

if ! cluster env >/dev/null 2>&1; then
  started=yes
  cluster up
fi
eval "$(cluster env)"
! kubectl get namespace playground >/dev/null 2>&1 || fail "there is a demo already; kubectl delete namespace playground"

# The images show short commands, as people type them.
cp "$KUBECONFIG" "$work/kubeconfig"
export KUBECONFIG=$work/kubeconfig
kubectl config set-context --current --namespace=playground >/dev/null
head -c 18 /dev/urandom | base64 >"$work/new-password"

shown() { # shown <command> [<filter>]: appends the command and its output to the transcript
  { echo "\$ $1" && (cd "$work" && bash -c "$1" 2>&1) | ${2:-awk 1} && echo; } >>"$work/transcript"
}
picture() { # picture <stem> <title>: writes the transcript as two SVG files
  "$tools/bin/python" "$here/terminal.py" "$work/transcript" "$2" "$here/$1"
  rm "$work/transcript"
}
within() { # within <seconds> <command...>: repeats the command until it succeeds
  local end=$((SECONDS + $1))
  until "${@:2}" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || fail "not so after $1 s: ${*:2}"
    sleep 0.2
  done
}

# Keeps the last row of each step of a watch and aligns the columns.
steps() {
  sed 's/   */\t/g' | awk -F '\t' '
    $3 == "PodInitializing" { next }
    { step = $3 $NF; if (!(step in row)) order[++n] = step; row[step] = $0 }
    END { for (i = 1; i <= n; i++) print row[order[i]] }' | column -t -s $'\t' -o '   '
}
# Keeps the lines about keyferry and replaces other lines with an ellipsis.
described() {
  awk '
    /^[A-Z]/ { inside = /^(Readiness Gates|Conditions|Events):/ }
    inside && !/ kubelet / { print; cut = 0; next }
    !cut++ { print /^ / && inside ? "  …" : "…" }'
}
ready() { kubectl wait --for=condition=Ready pod -l app=webapp --timeout=1s; }
# The change is in the files, in the Secret, and in an Event.
changed() {
  kubectl logs deployment/demo-dp -c webapp | grep -q changes=1 &&
    kubectl get secret top-secret-ks -o jsonpath='{.metadata.annotations}' | grep -q '"v\\":2' &&
    kubectl get events --field-selector reportingComponent=keyferry | grep -q 'generation 2'
}

say "the demo starts"
kubectl apply -f deploy/policies -f deploy/manifests/namespace.yaml >/dev/null
made=yes
kubectl apply -f deploy/manifests/rbac.yaml -f deploy/manifests/viewer.yaml >/dev/null
kubectl get pods -o wide --watch >"$work/watch" &
background=$!
sed 's|http://vault.vault.svc:8200|http://10.96.0.10:8200|' deploy/manifests/demo.yaml | kubectl apply -f - >/dev/null
within 60 ready
within 10 grep -q 2/2 "$work/watch"
kill "$background"
{ echo '$ kubectl get pods -o wide --watch' && steps <"$work/watch" && echo; } >>"$work/transcript"
shown 'kubectl describe pod -l app=webapp' described
picture pods "The application starts after its files are published"

say "the password changes; the agent looks once a minute"
shown 'vault kv patch -field=version secret/webapp/config password=- <new-password'
within 100 changed
shown 'kubectl logs deployment/demo-dp -c webapp'
shown 'kubectl get events --field-selector reportingComponent=keyferry'
shown "kubectl get secret top-secret-ks -o jsonpath='{.metadata.annotations.keyferry\.dev/source-versions}'"
shown 'kubectl get pods'
picture change "A new password reaches the file and the Secret without a restart"

say "the page"
kubectl port-forward deployment/demo-dp :8080 >"$work/forward" &
background=$!
within 10 grep -q 127.0.0.1 "$work/forward"
page=http://$(grep -om1 '127.0.0.1:[0-9]*' "$work/forward")/
# Uses desktop fonts instead of those of a minimal server, and a separate Chromium profile.
cat >"$work/fonts.conf" <<FONTS
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <include>/etc/fonts/fonts.conf</include>
  <alias binding="strong"><family>sans-serif</family><prefer><family>Inter</family></prefer></alias>
  <alias binding="strong"><family>monospace</family><prefer><family>JetBrains Mono</family></prefer></alias>
</fontconfig>
FONTS
schemes=(dark light) # The index is the value of Blink's PreferredColorScheme.
for number in "${!schemes[@]}"; do
  scheme=${schemes[number]}
  FONTCONFIG_FILE=$work/fonts.conf chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
    --disable-background-networking --disable-component-update --disable-sync --user-data-dir="$work/chromium-$scheme" \
    --blink-settings=preferredColorScheme="$number" --hide-scrollbars \
    --window-size=760,420 --force-device-scale-factor=2 --screenshot="$here/page-$scheme.png" "$page" 2>"$work/chromium.log" ||
    fail "$(tail -n 5 "$work/chromium.log")"
done

! grep -qF "$(cat "$work/new-password")" "$here"/*.svg || fail "the password is in a picture"
ls -l "$here"
