#!/usr/bin/env bash
# Builds our images without a container daemon, each as one OCI archive in target/image: keyferry.tar, webapp.tar.
#   images/build.sh [--arch amd64,arm64] [--prebuilt] [keyferry] [webapp]
#   --arch      architectures in the archive; left out: both
#   --prebuilt  takes target/image/<image>-<arch> as they are, instead of building them first
# Debian: apt-get install buildah musl-tools gcc-aarch64-linux-gnu libc6-dev-arm64-cross; webapp needs Go.
set -euo pipefail
cd "$(dirname "$0")/.."

archs="amd64 arm64" prebuilt="" images=""
while [ $# -gt 0 ]; do
  case $1 in
    --arch) archs=${2//,/ } && shift ;;
    --prebuilt) prebuilt=yes ;;
    keyferry | webapp) images+=" $1" ;;
    *) sed -n '2,6s/^# //p' "$0" >&2 && exit 64 ;;
  esac
  shift
done
images=${images:-keyferry webapp}

target=${CARGO_TARGET_DIR:-target}
context=$target/image
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
mkdir -p "$context"

compile_keyferry() { # compile_keyferry <arch>
  local triple
  case $1 in
    amd64) triple=x86_64-unknown-linux-musl ;;
    arm64) triple=aarch64-unknown-linux-musl ;;
  esac
  rustup target list --installed | grep -qx "$triple" || rustup target add "$triple"
  # ring's C needs a compiler for the target; it uses no libc, so that the glibc cross compiler is good enough.
  CC_x86_64_unknown_linux_musl=musl-gcc CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld \
    cargo build --locked --release --bin keyferry --target "$triple"
  cp "$target/$triple/release/keyferry" "$context/keyferry-$1"
}

compile_webapp() { # compile_webapp <arch>
  local out
  out=$(realpath "$context")/webapp-$1
  (cd images/webapp && CGO_ENABLED=0 GOOS=linux GOARCH=$1 GOWORK=off go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$out" .)
}

# Our own storage, so that nothing of the machine's images is touched and a second run starts from nothing.
storage=$(mktemp -d)
buildah() { command buildah --root "$storage/root" --runroot "$storage/run" --storage-driver vfs "$@"; }
clean() {
  buildah rm --all >/dev/null 2>&1 || true
  rm -rf "$storage"
}
trap clean EXIT

for image in $images; do
  case $image in
    keyferry) name=keyferry dockerfile=Dockerfile ;;
    webapp) name=keyferry-webapp dockerfile=images/webapp/Dockerfile ;;
  esac
  # What `image: keyferry:0.1.0` in a pod specification means to a container runtime.
  full=docker.io/library/$name:$version
  buildah manifest create "$full" >/dev/null
  for arch in $archs; do
    [ -n "$prebuilt" ] || "compile_$image" "$arch"
    # `--timestamp 0`: the same binary gives the same image. `--squash`: one layer, without the empty one of `base`.
    buildah build --quiet --isolation chroot --target prebuilt --platform "linux/$arch" --timestamp 0 --squash \
      --build-arg VERSION="$version" --build-arg REVISION="$revision" --manifest "$full" -f "$dockerfile" "$context" >/dev/null
    echo "$full linux/$arch: $(stat -c %s "$context/$image-$arch") bytes, uncompressed"
  done
  rm -f "$context/$image.tar"
  buildah manifest push --quiet --all "$full" "oci-archive:$context/$image.tar:$full" >/dev/null
  echo "$context/$image.tar: $(stat -c %s "$context/$image.tar") bytes, compressed"
done
