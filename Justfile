# Every recipe is a plain command; nobody needs `just` to work here.

musl := "x86_64-unknown-linux-musl"

[private]
default:
    @just --list --unsorted

# Shows the reference scenario on real servers, step by step
demo:
    cargo demo

# All tests; the real Vault and API server are built on the first run and kept in ~/.cache/keyferry
test *filter:
    cargo test --locked {{filter}}

# The tests on a real cluster with a real node; as root, and once it takes some minutes more to build it
e2e *filter:
    cargo test --locked --test e2e {{filter}}

# Starts that cluster, and its Vault, for looking around; as root
cluster-up:
    cargo run --locked --quiet --example cluster -- up

# Ends it; nothing is left
cluster-down:
    cargo run --locked --quiet --example cluster -- down

# The pictures of kubectl and of the demo's page, from a run in that cluster; as root, needs Chromium
screens:
    docs/screens/make.sh

# Format, lints, and what may come in as a dependency
lint:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings
    cargo deny check bans licenses sources

# Formats the code
fmt:
    cargo fmt

# The static binary that is shipped
build:
    cargo build --locked --release --target {{musl}}

# Known faults of our dependencies; needs GitHub
advisories:
    cargo deny check advisories

# The images from scratch for amd64 and arm64, each as one OCI archive in target/image
image:
    images/build.sh

# keyferry beside bare requests and `vault agent`, in one run on this machine
bench: build
    cargo run --locked --quiet --example side_by_side

# N agents against one Vault on this machine: time to all files, memory of each; as root, ends by itself
density agents="1000": build
    cargo run --locked --quiet --example side_by_side -- --density {{agents}}

# The simulated world for some hours instead of some seconds; prints the seed of a run that fails
simulate hours="1":
    SIMULATE_HOURS={{hours}} cargo test --locked --test simulation soak -- --nocapture

# All that must hold before a change is merged
ci:
    .ci/run
