# Two ways to the same image:
#   from binaries that were built and tested outside (what `just image` and a release do; no emulation, same bytes for all):
#     buildah build --target prebuilt --platform linux/arm64 target/image -f Dockerfile
#   from source, in one command:
#     docker build .

FROM docker.io/library/rust:1.95.0 AS build
RUN apt-get update && apt-get install -y --no-install-recommends musl-tools && rm -rf /var/lib/apt/lists/*
# The image's own compiler is the one that rust-toolchain.toml names; rustup must not fetch clippy and rustfmt.
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN rustup target add "$(uname -m)-unknown-linux-musl"
WORKDIR /src
COPY . .
# ring compiles a little C.
RUN triple="$(uname -m)-unknown-linux-musl" && \
    env "CC_$(echo "$triple" | tr - _)=musl-gcc" cargo build --locked --release --bin keyferry --target "$triple" && \
    mv "target/$triple/release/keyferry" /keyferry

# Everything that both have in common. No shell, no libc, no package: nothing to exec into and nothing to patch but us.
FROM scratch AS base
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="keyferry" \
      org.opencontainers.image.description="Brings secrets from HashiCorp Vault or OpenBao into Kubernetes pods as files, and keeps them fresh" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Numeric, so that `runAsNonRoot` can be checked by the kubelet.
USER 65532:65532
ENTRYPOINT ["/keyferry"]

FROM base AS prebuilt
ARG TARGETARCH
COPY --chmod=0555 keyferry-${TARGETARCH} /keyferry

FROM base
COPY --from=build --chmod=0555 /keyferry /keyferry
