#!/usr/bin/env bash
# Measures the HTTP interface of a user's node on a network of its own on this machine: ./ops/http.sh [seconds] [idle connections]
# wrk reads the list of a user with 100 files over 100 connections; ab stores 100 files of 64 KiB, 10 at once; then very many
# connections are opened that say nothing, and the command line is timed beside them. Limits on the rate are off, as they would be what is measured.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
seconds=${1:-30}
idle=${2:-10000}
need_package wrk wrk
need_package ab apache2-utils
need_package python3 python3
if [ -z "${TRULLO:-}" ]; then
  need_basics
  say "building trullo (the first time takes some minutes)"
  cargo build --release --locked --quiet --bin trullo
  TRULLO="$CARGO_TARGET_DIR/release/trullo"
fi
dir=$(mktemp -d)
trap '"$TRULLO" testnet down --dir "$dir/net" --quiet >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
home="$dir/net/user-1"
"$TRULLO" testnet up --dir "$dir/net" --validators 1 --storage 3 --users 1 --idle-interval-ms 200 --quiet >/dev/null
"$TRULLO" testnet kill user-1 --dir "$dir/net" --quiet >/dev/null
sed -i 's/^\[api\]$/[api]\nwelcome_credits = 10000000\nrequests_per_s = 0/' "$home/config.toml"
"$TRULLO" testnet start user-1 --dir "$dir/net" --quiet >/dev/null
url="http://$(cat "$home/api.addr")"
(umask 077; echo "correct horse" >"$dir/password")
"$TRULLO" --home "$home" user add anna --password-file "$dir/password" --quiet >/dev/null
token=$(curl -sS --fail-with-body -H 'Content-Type: application/json' "$url/v1/auth/login" -d '{"name":"anna","password":"correct horse"}' | sed 's/.*"token":"\([0-9a-f]*\)".*/\1/')
head -c 65536 /dev/urandom >"$dir/file"

say "ab: 100 uploads of 64 KiB, 10 at once"
ab -q -l -n 100 -c 10 -s 120 -p "$dir/file" -T application/octet-stream -H "Authorization: Bearer $token" "$url/v1/files?name=file" | tee "$dir/ab" | grep -E 'Complete|Failed|Non-2xx|Requests per|  50%|  99%| 100%'
grep -q 'Failed requests: *0' "$dir/ab" && ! grep -q Non-2xx "$dir/ab" || die "an upload failed"
stored=$(curl -sS -H "Authorization: Bearer $token" "$url/v1/files?limit=1000" | grep -o '"status":"final"' | wc -l)
say "$stored of these files are final"

for limit in 10 100; do
  say "wrk: pages of $limit of the file list for $seconds s, 100 connections"
  wrk -t4 -c100 -d"${seconds}s" --timeout 10s --latency -H "Authorization: Bearer $token" "$url/v1/files?limit=$limit" | tee "$dir/wrk" | grep -E 'requests in|Requests/sec|50%|99%|Socket errors|Non-2xx'
  ! grep -qE 'Socket errors|Non-2xx' "$dir/wrk" || die "a request failed"
done

say "the command line beside $idle connections that say nothing"
python3 - "$idle" "${url#http://}" "$TRULLO" "$home" <<'END'
import resource, socket, subprocess, sys, time
count, address, trullo, home = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
def times():
    took = []
    for _ in range(20):
        begun = time.monotonic()
        subprocess.run([trullo, "--home", home, "account", "show", "--json"], check=True, stdout=subprocess.DEVNULL)
        took.append(1000 * (time.monotonic() - begun))
    took.sort()
    return f"median {took[10]:.0f} ms, worst {took[-1]:.0f} ms"
print("without:", times())
host, port = address.rsplit(":", 1)
begun = time.monotonic()
# Each is kept open on this side, whatever the node does with it.
held = [socket.create_connection((host, int(port)), timeout=30) for _ in range(count)]
print(f"{len(held)} opened in {time.monotonic() - begun:.1f} s")
print("with:", times())
END
