#!/usr/bin/env bash
# The battery against which releases are held: ./ops/battery.sh quick|nightly|release [part...]
# Parts: sim, twins, planted, crashes, kills, partitions, fuzz, mutants. Default: all of the tier; quick has no mutants. Each prints JSON lines or
# its seeds; the first failure ends it and says how to see it again. A part's size can be set: SIM=2000 ./ops/battery.sh nightly sim.
#            sim      twins     crashes  kills  partitions  fuzz (s each)  mutants (one of so many)
# quick      2,000    5,000     2,000    30     5           20             -
# nightly    200,000  1,000,000 100,000  1,000  100         600            1
# release    ten times the nightly runs
set -euo pipefail
source "$(dirname "$0")/lib.sh"
tier=${1:-}
case "$tier" in
  quick)   sizes=(2000 5000 2000 30 5 20 0) ;;
  nightly) sizes=(200000 1000000 100000 1000 100 600 1) ;;
  release) sizes=(2000000 10000000 1000000 10000 2000 6000 1) ;;
  *) die "say which: ./ops/battery.sh quick|nightly|release [part...]" ;;
esac
shift
parts=("$@")
[ $# -gt 0 ] || parts=(sim twins planted crashes kills partitions fuzz)
[ $# -gt 0 ] || [ "$tier" = quick ] || parts+=(mutants)
SIM=${SIM:-${sizes[0]}} TWINS=${TWINS:-${sizes[1]}} CRASHES=${CRASHES:-${sizes[2]}} KILLS=${KILLS:-${sizes[3]}}
PARTITIONS=${PARTITIONS:-${sizes[4]}} FUZZ=${FUZZ:-${sizes[5]}} MUTANTS=${MUTANTS:-${sizes[6]}} SEED=${SEED:-1}
need_basics
if [ -z "${TRULLO:-}" ]; then
  say "building trullo (the first time takes some minutes)"
  cargo build --release --locked --quiet
  TRULLO="$CARGO_TARGET_DIR/release/trullo"
fi
export TRULLO

# runs COUNT ARGS...: so many seeds, from SEED on, in as many processes as there are processors.
runs() {
  local count=$1 workers share pids=() status=0; shift
  workers=$(nproc)
  share=$(( (count + workers - 1) / workers ))
  [ "$share" -gt 0 ] || share=1
  for ((worker = 0; worker < workers; worker++)); do
    local from=$((SEED + worker * share))
    "$TRULLO" sim --seeds "$from..$((from + share))" "$@" --json --quiet &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
  [ "$status" = 0 ] || die "a run failed (above): trullo sim $* --seed N --trace shows it"
}
part() { local began=$SECONDS; say "$tier: $1"; "part_$1"; echo "{\"battery\":\"$1\",\"tier\":\"$tier\",\"seconds\":$((SECONDS - began))}"; }

# Half of the schedules with nobody dead, the others with each position dead in turn.
part_sim() {
  local position
  for n in 4 7; do
    runs $((SIM / 4)) --validators "$n"
    for ((position = 0; position < n; position++)); do runs $((SIM / 4 / n)) --validators "$n" --dead "$position"; done
  done
  runs $((SIM / 20)) --scenario ledger
  for shape in halves minority ring bridge one-way flapping; do runs $((SIM / 100)) --scenario "$shape"; done
  runs $((SIM / 100)) --scenario cascade --validators 7
}
# Fewer than a third twins do no harm and are found out; one more must make a fork, or the checker is blind.
part_twins() {
  for scenario in twins leaders revotes stale; do
    runs $((TWINS / 5)) --scenario "$scenario" --validators 4
    runs $((TWINS / 50)) --scenario "$scenario" --validators 7
  done
  for scenario in forking-twins forking-leaders; do runs 20 --scenario "$scenario"; done
}
part_planted() { cargo test --locked --quiet --features planted-bugs --test sim -- planted; }
part_crashes() { TRULLO_CRASH_IMAGES=$CRASHES cargo test --locked --quiet --features planted-bugs --test crash; }
part_kills() { python3 ops/kills.py "$TRULLO" "$KILLS" "$SEED"; }
part_partitions() {
  local status=0
  ./ops/partitions.sh "$PARTITIONS" "$SEED" || status=$?
  [ "$status" != 77 ] || { say "partitions: skipped, there are no network namespaces here"; return 0; }
  return "$status"
}
part_fuzz() { ./ops/fuzz.sh "$FUZZ"; }
# One of so many mutants of consensus, proofs and the ledger; of those that compile, 95 % have to be caught.
part_mutants() {
  need_cargo_tool cargo-mutants cargo-mutants
  local out; out=$(mktemp -d)
  local args=(--file 'src/consensus/*.rs' --file 'src/files/proof.rs' --file 'src/ledger/*.rs' --output "$out" --timeout 180 --jobs 1)
  [ "$MUTANTS" -le 1 ] || args+=(--shard "0/$MUTANTS")
  cargo mutants "${args[@]}" -- --locked --features planted-bugs --lib --test sim || true
  python3 - "$out/mutants.out/outcomes.json" <<'PY'
import json, sys
found = json.load(open(sys.argv[1]))
caught, missed = found["caught"] + found["timeout"], found["missed"]
share = caught / max(1, caught + missed)
print(json.dumps({"battery": "mutants", "caught": caught, "missed": missed, "share": round(share, 3), "goal": 0.95}))
sys.exit(0 if share >= 0.95 else 1)
PY
}

for name in "${parts[@]}"; do
  declare -F "part_$name" >/dev/null || die "there is no part $name"
  part "$name"
done
say "$tier: all parts passed"
