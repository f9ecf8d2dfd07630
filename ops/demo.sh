#!/usr/bin/env bash
# Builds trullo and shows the main job on a network of real processes on this machine.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
need_basics
say "building trullo (the first time takes some minutes)"
cargo build --release --locked --bin trullo
exec "$CARGO_TARGET_DIR/release/trullo" demo "$@"
