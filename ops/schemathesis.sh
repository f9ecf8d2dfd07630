#!/usr/bin/env bash
# Sends generated requests, valid and not, to every route of the HTTP interface and checks each answer against schema/openapi.json:
# ./ops/schemathesis.sh [cases per route] [seed]. Makes a network of its own on this machine, with a user who has files.
#
# All checks are on. First as a user, then as the owner of the node. What is left out, and why: logout, where it would end the login
# of all other requests (it has a run of its own); as the owner /v1/admin/stop, which would end the node, /v1/admin/links, which would
# cut it off, and /v1/events, which has no end (as a user all three are asked, and refused).
# TRULLO is the program to run, by default one that is built here. Exit 77: Python, or the package, cannot be had.
# PHASES are those of schemathesis that are run, all by default.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
version=4.32.5
cases=${1:-200}
seed=${2:-1}
if [ -z "${TRULLO:-}" ]; then
  need_basics
  say "building trullo (the first time takes some minutes)"
  cargo build --release --locked --quiet
  TRULLO="$CARGO_TARGET_DIR/release/trullo"
fi
env="$TRULLO_CACHE/schemathesis-$version"
if [ ! -x "$env/bin/schemathesis" ]; then
  say "installing schemathesis $version into $env"
  { python3 -m venv --clear "$env" && "$env/bin/pip" install --quiet "schemathesis==$version"; } >&2 || { say "skipped: schemathesis $version cannot be installed"; exit 77; }
fi
dir=$(mktemp -d)
trap '"$TRULLO" testnet down --dir "$dir/net" --quiet >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
home="$dir/net/user-1"
"$TRULLO" testnet up --dir "$dir/net" --validators 1 --storage 2 --users 1 --idle-interval-ms 100 --quiet >/dev/null
"$TRULLO" testnet kill user-1 --dir "$dir/net" --quiet >/dev/null
# Limits that would stop the run; each has tests of its own.
sed -i 's/^\[api\]$/[api]\nregistration = "open"\nwelcome_credits = 1000\nusers_max = 100000\nlogins_per_minute = 1000000\nlogins_per_minute_address = 1000000\nrequests_per_s = 0/' "$home/config.toml"
"$TRULLO" testnet start user-1 --dir "$dir/net" --quiet >/dev/null
url="http://$(cat "$home/api.addr")"
owner=$(cat "$home/api.token")
json=(-sS --fail-with-body -H 'Content-Type: application/json')
curl "${json[@]}" "$url/v1/auth/register" -d '{"name":"anna","password":"correct horse"}' >/dev/null
# log_in: prints a new token of the user.
log_in() { curl "${json[@]}" "$url/v1/auth/login" -d '{"name":"anna","password":"correct horse"}' | sed 's/.*"token":"\([0-9a-f]*\)".*/\1/'; }
user=$(log_in)
account=$(curl -sS -H "Authorization: Bearer $user" "$url/v1/auth/me" | sed 's/.*"account":"\([0-9a-f]*\)".*/\1/')
"$TRULLO" --home "$home" account transfer "$account" 100000 --quiet >/dev/null
for name in one two three; do curl -sS --fail-with-body -H "Authorization: Bearer $user" -F "file=@Cargo.toml;filename=$name" "$url/v1/files" >/dev/null; done

# A transaction's canonical bytes are more than a schema can describe.
cat >"$dir/user.toml" <<'END'
[[operations]]
include-path = "/v1/txs"
[operations.checks]
positive_data_acceptance.enabled = false
# 504 is the answer to a time that the client itself allows for finality, and generated ones begin at 100 ms.
[[operations]]
include-operation-id = "put_file"
[operations.checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "504"]
[[operations]]
include-operation-id = "tree_change"
[operations.checks]
# What changes may say together, and which names may be there, is more than a schema can describe.
positive_data_acceptance.enabled = false
[[operations]]
include-operation-id = "tree_put_content"
[operations.checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "504"]
END
# To the owner of the node the ledger stays readable: what it has of a deleted file, too.
printf '[checks]\nuse_after_free.enabled = false\n' | cat - "$dir/user.toml" >"$dir/owner.toml"
# run WHO TOKEN OPTION...: one run; what it finds is shown, and fails the script.
failed=0
run() {
  local who=$1 token=$2 config="$dir/user.toml"; shift 2
  [ "$who" != owner ] || config="$dir/owner.toml"
  say "as $who"
  # It leaves its notes where it is started.
  (cd "$dir" && "$env/bin/schemathesis" --config-file "$config" run "$url/openapi.json" --header "Authorization: Bearer $token" \
    --mode all --max-examples "$cases" --seed "$seed" --continue-on-failure --generation-database none \
    --request-timeout 60 --workers 1 --suppress-health-check all --warnings off --no-color ${PHASES:+--phases "$PHASES"} "$@") | tee "$dir/log.$who" | grep -v '^$' || failed=1
  [ "$(curl -s -o /dev/null -w '%{http_code}' "$url/livez")" = 200 ] || die "the node does not answer any more"
}
run user "$user" --exclude-operation-id logout
run logout "$(log_in)" --include-operation-id logout
run owner "$owner" --exclude-operation-id logout --exclude-path /v1/admin/stop --exclude-path /v1/admin/links --exclude-path /v1/events \
  --exclude-path /v1/backup
[ $failed = 0 ] || { cp "$dir"/log.* "${REPORT:-/tmp}" 2>/dev/null || true; die "not every answer is as the document says"; }
say "every answer is as the document says"
