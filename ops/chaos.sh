#!/usr/bin/env bash
# Kills storage nodes at random, reads everything, lets them come back and repair, again and again: ./ops/chaos.sh [rounds] [seed]
# A network of its own on this machine: 1 validator, 7 storage nodes, files of 3+2 slots; two nodes die in each round. Some stay
# away until their slots were rebuilt by others, some come back at once. Every byte of every file is compared in every round.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
need_basics
rounds=${1:-50}
RANDOM=${2:-1}
say "building trullo (the first time takes some minutes)"
cargo build --release --locked --quiet
trullo="$CARGO_TARGET_DIR/release/trullo"
dir=$(mktemp -d)
trap '"$trullo" testnet down --dir "$dir/net" --quiet >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
user="$dir/net/user-1"
"$trullo" testnet up --dir "$dir/net" --validators 1 --storage 7 --users 1 --idle-interval-ms 50 --quiet >/dev/null

# until_true SECONDS WHAT COMMAND...: repeats a look until it succeeds.
until_true() {
  local end=$((SECONDS + $1)) what=$2; shift 2
  until "$@"; do [ $SECONDS -lt $end ] || die "not in time: $what"; sleep 0.5; done
}
# whole: every slot of every file is held by a node that answers, and any two nodes may die.
whole() {
  local id health
  for id in "${ids[@]}"; do
    health=$("$trullo" --home "$user" file health "$id" --json)
    grep -q '"answering":5[,}]' <<<"$health" && grep -q '"spare_nodes":2[,}]' <<<"$health" || return 1
  done
}
# gone NAME...: the ledger has given up what these nodes held.
gone() {
  local name audits
  audits=$("$trullo" --home "$user" storage audits --json | tr '}' '\n')
  for name in "$@"; do grep "\"$name\"" <<<"$audits" | grep -q '"used":0,' || return 1; done
}
read_all() {
  local at
  for at in "${!ids[@]}"; do
    "$trullo" --home "$user" get "${ids[$at]}" -f -o "$dir/out" --quiet >/dev/null || die "file $at cannot be read"
    cmp "$dir/in.$at" "$dir/out" || die "file $at has other bytes"
  done
}

ids=()
for at in 0 1 2 3; do
  head -c $((1 + RANDOM * 100)) /dev/urandom >"$dir/in.$at"
  ids+=("$("$trullo" --home "$user" put "$dir/in.$at" --data 3 --parity 2 --quiet)")
done
until_true 60 "all slots are confirmed" whole
for round in $(seq "$rounds"); do
  first=$((RANDOM % 7 + 1)); second=$(((first + RANDOM % 6) % 7 + 1))
  names=("storage-$first" "storage-$second")
  replace=$((RANDOM / 8 % 2))
  for name in "${names[@]}"; do "$trullo" testnet kill "$name" --dir "$dir/net" --quiet >/dev/null; done
  read_all
  if [ $replace = 1 ]; then
    until_true 300 "the ledger gives up ${names[*]}" gone "${names[@]}"
    until_true 300 "others rebuild the slots of ${names[*]}" whole
    read_all
  fi
  for name in "${names[@]}"; do "$trullo" testnet start "$name" --dir "$dir/net" --quiet >/dev/null; done
  until_true 300 "full redundancy" whole
  say "round $round of $rounds: ${names[*]} died, $([ $replace = 1 ] && echo "their slots were rebuilt" || echo "and came back"); every byte is the same"
done
say "$rounds rounds, ${#ids[@]} files: every byte intact"
