# Shared by the scripts in ops and .ci: where build outputs go, and installing what is missing.

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
export TRULLO_CACHE="${TRULLO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/trullo}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$TRULLO_CACHE/target}"
export CLIPPY_CONF_DIR=ops
export PATH="$TRULLO_CACHE/tools/bin:$PATH"
mkdir -p "$CARGO_TARGET_DIR"

# as_root COMMAND...: runs it directly as root, else through sudo.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# need_package COMMAND PACKAGE: installs a Debian package when the command is missing.
need_package() {
  command -v "$1" >/dev/null && return
  say "$1 is missing; installing $2"
  command -v apt-get >/dev/null || die "$1 is missing and this is no Debian: install $2 and run this again"
  { as_root apt-get update -qq && as_root apt-get install -y -qq "$2" >/dev/null; } || die "could not install $2: install it by hand and run this again"
}

# need_cargo_tool COMMAND CRATE: builds a cargo tool into the cache when it is missing.
need_cargo_tool() {
  command -v "$1" >/dev/null && return
  say "$1 is missing; building it (a few minutes, once)"
  cargo install --quiet --locked --root "$TRULLO_CACHE/tools" --target-dir "$TRULLO_CACHE/tools-target" "$2" || die "could not build $2"
}

need_basics() {
  command -v cargo >/dev/null || die "cargo is missing: install Rust 1.95 or later (https://rustup.rs) and run this again"
  need_package cc gcc
}
