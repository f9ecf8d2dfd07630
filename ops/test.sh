#!/usr/bin/env bash
# Passes all tests. Arguments go to the test runner, for example: ./ops/test.sh consensus::
set -euo pipefail
source "$(dirname "$0")/lib.sh"
need_basics
say "building and running the tests"
cargo test --locked --features planted-bugs "$@"
