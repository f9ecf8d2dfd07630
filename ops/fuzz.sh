#!/usr/bin/env bash
# Fuzzes every decoder that sees foreign bytes: ./ops/fuzz.sh [seconds for each] [target...]
# An input may take a second and 256 MiB. Stops at the first finding and says how to see it again.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
need_basics
need_package c++ g++
seconds=60
if [[ "${1:-}" =~ ^[0-9]+$ ]]; then seconds=$1; shift; fi
mapfile -t known < <(cd fuzz/fuzz_targets && printf '%s\n' *.rs | sed 's/\.rs$//')
targets=("$@")
[ $# -gt 0 ] || targets=("${known[@]}")
for target in "${targets[@]}"; do
  [ -f "fuzz/fuzz_targets/$target.rs" ] || die "there is no fuzz target $target; there are: ${known[*]}"
done
if ! cargo +nightly --version >/dev/null 2>&1; then
  say "the nightly toolchain is missing; installing it"
  rustup toolchain install nightly --profile minimal || die "could not install the nightly toolchain: run 'rustup toolchain install nightly'"
fi
need_cargo_tool cargo-fuzz cargo-fuzz

# No sanitizer: the program has no unsafe code, and without one the memory limit is the program's own.
out="$TRULLO_CACHE/fuzz"
say "building ${#targets[@]} fuzz targets (the first time takes some minutes)"
build() { cargo +nightly fuzz build --sanitizer none --target-dir "$out" "$@"; }
if [ ${#targets[@]} = 1 ]; then build "${targets[0]}"; else build; fi
bin="$out/$(rustc -vV | sed -n 's/^host: //p')/release"
# Memory that is asked for and never touched counts too.
ulimit -v $((1 << 20))
for target in "${targets[@]}"; do
  say "$target for $seconds s"
  mkdir -p "$out/corpus/$target" "$out/artifacts/$target"
  # Long inputs at once: in a minute the engine alone would not come to the length of a few messages.
  options=(-timeout=1 -rss_limit_mb=256 -len_control=0 -print_final_stats=1 -artifact_prefix="$out/artifacts/$target/")
  corpus=("$out/corpus/$target")
  [ ! -d "fuzz/seeds/$target" ] || corpus+=("fuzz/seeds/$target")
  log="$out/$target.log"
  if ! "$bin/$target" "${options[@]}" -max_total_time="$seconds" "${corpus[@]}" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    input=$(sed -n 's/^.*Test unit written to //p' "$log" | tail -n 1)
    die "$target found something; see it again with: $bin/$target -timeout=1 -rss_limit_mb=256 ${input:-(no input was kept; see $log)}"
  fi
  grep -E 'stat::(number_of_executed_units|average_exec_per_sec|peak_rss_mb|slowest_unit_time_sec)' "$log" >&2
done
say "nothing found by ${#targets[@]} targets in $seconds s each"
