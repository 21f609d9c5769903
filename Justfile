# Every recipe is a plain command, so `just` is optional.

musl := "x86_64-unknown-linux-musl"

[private]
default:
    @just --list --unsorted

# Run the reference scenario on real servers, step by step
demo:
    cargo demo

# Run all tests; the first run builds the real Vault and API server and caches them in ~/.cache/keyferry
test *filter:
    cargo test --locked {{filter}}

# Run the tests on a real cluster with a real node, as root; the first run takes some minutes longer
e2e *filter:
    cargo test --locked --test e2e {{filter}}

# Start that cluster and its Vault for manual use, as root
cluster-up:
    cargo run --locked --quiet --example cluster -- up

# Stop that cluster and remove all of it
cluster-down:
    cargo run --locked --quiet --example cluster -- down

# Regenerate the screenshots of kubectl and the demo page in that cluster; as root, requires Chromium
screens:
    docs/screens/make.sh

# Check format, lints, and the rules for dependencies
lint:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings
    cargo deny check bans licenses sources

# Format the code
fmt:
    cargo fmt

# Check and test the alert rules; requires promtool (Debian: prometheus)
alerts:
    promtool check rules deploy/monitoring/alerts.yaml
    promtool test rules deploy/monitoring/alerts_test.yaml

# Build the static release binary
build:
    cargo build --locked --release --target {{musl}}

# Check dependencies for known vulnerabilities; requires access to GitHub
advisories:
    cargo deny check advisories

# Build the images for amd64 and arm64, each as an OCI archive in target/image
image:
    images/build.sh

# Compare keyferry with plain HTTP requests and `vault agent` on this machine
bench: build
    cargo run --locked --quiet --example side_by_side

# Run N agents against one Vault on this machine: time until all files exist, memory per agent; as root
density agents="1000": build
    cargo run --locked --quiet --example side_by_side -- --density {{agents}}

# Print the time that the core needs for one input, by number of sources
agent-cost:
    cargo run --locked --release --quiet --example agent_cost

# Run the simulation for hours instead of seconds; prints the seed of a failed run
simulate hours="1":
    SIMULATE_HOURS={{hours}} cargo test --locked --test simulation soak -- --nocapture

# Log in to a real PostgreSQL with published credentials for minutes, while leases end, agents are killed, and Vault is away
postgres minutes="10":
    POSTGRES_MINUTES={{minutes}} cargo test --locked --test integration logins_succeed_for_minutes -- --nocapture

# Run all checks that a change must pass before it is merged
ci:
    .ci/run
