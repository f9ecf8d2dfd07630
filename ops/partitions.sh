#!/usr/bin/env bash
# Cuts networks of real processes apart, round after round, and checks from outside what they acknowledged: ./ops/partitions.sh [rounds] [seed]
# Each node has a network namespace of its own; nftables drop packets between them. Needs root; without it, it says so and ends with 77.
# Up to 5 rounds take four validators; of more, a third each four, five and seven. TRULLO names a binary in place of a release build.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
if [ "$(id -u)" = 0 ]; then
  need_package ip iproute2
  need_package nft nftables
fi
need_package python3 python3
if [ -z "${TRULLO:-}" ]; then
  need_basics
  say "building trullo (the first time takes some minutes)"
  cargo build --release --locked --quiet
  TRULLO="$CARGO_TARGET_DIR/release/trullo"
fi
exec python3 ops/partitions.py "$TRULLO" "${1:-5}" "${2:-1}"
