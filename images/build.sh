#!/usr/bin/env bash
# Builds the image for amd64 and arm64 into target/image/keyferry.tar (one OCI archive), without a container daemon.
#   images/build.sh             cross-compiles both release binaries first
#   images/build.sh --prebuilt  takes target/image/keyferry-{amd64,arm64} as they are
# Debian: apt-get install buildah musl-tools gcc-aarch64-linux-gnu libc6-dev-arm64-cross
set -euo pipefail
cd "$(dirname "$0")/.."

context=${CARGO_TARGET_DIR:-target}/image
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
mkdir -p "$context"

if [ "${1:-}" != --prebuilt ]; then
  rustup target add x86_64-unknown-linux-musl aarch64-unknown-linux-musl
  # ring's C needs a compiler for the target; it uses no libc, so that the glibc cross compiler is good enough.
  export CC_x86_64_unknown_linux_musl=musl-gcc
  export CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld
  for pair in amd64:x86_64 arm64:aarch64; do
    triple=${pair#*:}-unknown-linux-musl
    cargo build --locked --release --bin keyferry --target "$triple"
    cp "${CARGO_TARGET_DIR:-target}/$triple/release/keyferry" "$context/keyferry-${pair%%:*}"
  done
fi

# Our own storage, so that nothing of the machine's images is touched and a second run starts from nothing.
storage=$(mktemp -d)
buildah() { command buildah --root "$storage/root" --runroot "$storage/run" --storage-driver vfs "$@"; }
clean() {
  buildah rm --all >/dev/null 2>&1 || true
  rm -rf "$storage"
}
trap clean EXIT

rm -f "$context/keyferry.tar"
buildah manifest create localhost/keyferry:"$version" >/dev/null
for arch in amd64 arm64; do
  # `--timestamp 0`: the same binary gives the same image. `--squash`: one layer, without the empty one of `base`.
  buildah build --quiet --isolation chroot --target prebuilt --platform "linux/$arch" --timestamp 0 --squash \
    --build-arg VERSION="$version" --build-arg REVISION="$revision" \
    --manifest localhost/keyferry:"$version" -f Dockerfile "$context"
done
buildah manifest push --quiet --all localhost/keyferry:"$version" "oci-archive:$context/keyferry.tar:$version"
ls -l "$context/keyferry.tar"
