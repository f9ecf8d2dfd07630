#!/usr/bin/env bash
# Runs programs that speak S3 at their default settings against the gateway of a network that this script makes on this machine:
# ./ops/s3-clients.sh [small|large|figures]. `large` adds objects of 100 MiB and 1 GiB, `figures` measures instead.
# boto3, awscli and s3cmd come from PyPI into the cache, rclone and restic from Debian.
# TRULLO is the program to run, by default one that is built here. Exit 77: one of the clients cannot be had.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
which=${1:-small}
clients=("boto3[crt]==1.44.5" awscli==1.46.2 s3cmd==2.4.0)
if [ -z "${TRULLO:-}" ]; then
  need_basics
  say "building trullo (the first time takes some minutes)"
  cargo build --release --locked --quiet
  TRULLO="$CARGO_TARGET_DIR/release/trullo"
fi
skip() { say "skipped: $*"; exit 77; }
env="$TRULLO_CACHE/s3-clients"
if [ "$(cat "$env/made" 2>/dev/null)" != "${clients[*]}" ]; then
  say "installing ${clients[*]} into $env"
  { python3 -m venv --clear "$env" && "$env/bin/pip" install --quiet "${clients[@]}" && echo "${clients[*]}" >"$env/made"; } >&2 || skip "${clients[*]} cannot be installed"
fi
for name in rclone restic; do
  command -v "$name" >/dev/null || { as_root apt-get update -qq && as_root apt-get install -y -qq "$name"; } >&2 || skip "$name cannot be installed"
done
dir=$(mktemp -d)
trap '"$TRULLO" testnet down --dir "$dir/net" --quiet >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
"$TRULLO" testnet up --dir "$dir/net" --validators 1 --storage "${STORAGE:-3}" --users 1 --idle-interval-ms 100 --quiet >/dev/null
home="$dir/net/user-1"
"$TRULLO" --home "$home" s3 keys add clients --quiet >"$dir/key"
# No settings of whoever runs this, and no proxy between two processes of one machine.
unset "${!AWS_@}" "${!RCLONE_@}" "${!RESTIC_@}" http_proxy HTTP_PROXY all_proxy ALL_PROXY
export HOME="$dir" XDG_CONFIG_HOME="$dir/config" XDG_CACHE_HOME="$dir/cache"
AWS_ENDPOINT_URL="http://$(cat "$home/s3.addr")"
AWS_ACCESS_KEY_ID=$(sed -n 1p "$dir/key")
AWS_SECRET_ACCESS_KEY=$(sed -n 2p "$dir/key")
export AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION=us-east-1

"$TRULLO" --home "$home" s3 keys add reader --read-only --expires 1h --quiet >"$dir/reader"
READ_ONLY_AWS_ACCESS_KEY_ID=$(sed -n 1p "$dir/reader")
READ_ONLY_AWS_SECRET_ACCESS_KEY=$(sed -n 2p "$dir/reader")
export READ_ONLY_AWS_ACCESS_KEY_ID READ_ONLY_AWS_SECRET_ACCESS_KEY

if [ "$which" = figures ]; then
  TRULLO="$TRULLO" TRULLO_HOME="$home" "$env/bin/python" ops/s3-figures.py
  exit
fi

# Files of a kind that people have: empty, small, names that need care.
make_files() {
  mkdir -p "$1/sub/é 空" "$1/sub2"
  : >"$1/empty"
  for n in 1 2 3 4 5 6 7 8; do head -c $((n * 3000)) /dev/urandom >"$1/sub/file $n & co"; done
  head -c 300000 /dev/urandom >"$1/sub/é 空/100%+1"
  head -c 6000000 /dev/urandom >"$1/sub2/six"
}
same() { diff -r "$1" "$2" >&2 || die "$3: what came back differs"; }
make_files "$dir/in"

restart="$TRULLO testnet kill user-1 --dir $dir/net --quiet && $TRULLO testnet start user-1 --dir $dir/net --quiet"
RESTART="$restart" "$env/bin/python" ops/s3-clients.py "$which"

sed -i 's/^# domain =.*/domain = "s3.test"/' "$home/config.toml"
eval "$restart" >/dev/null
TRULLO="$TRULLO" TRULLO_HOME="$home" S3_DOMAIN=s3.test "$env/bin/python" ops/s3-edges.py

say "awscli"
aws() { "$env/bin/aws" "$@"; }
aws s3 mb s3://awscli >/dev/null
aws s3 cp --recursive --quiet "$dir/in" s3://awscli/in
aws s3 sync --quiet s3://awscli/in "$dir/aws-out"
same "$dir/in" "$dir/aws-out" "aws s3 sync"
[ -z "$(aws s3 sync "$dir/in" s3://awscli/in)" ] || die "aws s3 sync moves what is there"
head -c 20000000 /dev/urandom >"$dir/twenty"
aws s3 cp --quiet "$dir/twenty" s3://awscli/twenty
aws s3 cp --quiet s3://awscli/twenty - | cmp - "$dir/twenty" || die "aws s3 cp: what came back differs"
aws s3 mv --quiet s3://awscli/twenty "s3://awscli/moved é"
[ "$(aws s3 ls s3://awscli/ | awk '{print $NF}' | sort | tr '\n' ' ')" = "in/ é " ] || die "aws s3 ls: $(aws s3 ls s3://awscli/)"
aws s3api create-multipart-upload --bucket awscli --key never >/dev/null
# It is given up when its time is over; the node looks when it starts.
"$TRULLO" testnet kill user-1 --dir "$dir/net" --quiet >/dev/null
sed -i 's/^# upload_expiry_s = .*/upload_expiry_s = 1/' "$home/config.toml"
"$TRULLO" testnet start user-1 --dir "$dir/net" --quiet >/dev/null
for _ in $(seq 120); do
  uploads=$(aws s3api list-multipart-uploads --bucket awscli --query 'length(Uploads || `[]`)')
  [ "$uploads" != 0 ] || break
done
[ "$uploads" = 0 ] || die "an upload that nobody completes does not expire"
"$TRULLO" testnet kill user-1 --dir "$dir/net" --quiet >/dev/null
sed -i 's/^upload_expiry_s = 1$/upload_expiry_s = 604800/' "$home/config.toml"
"$TRULLO" testnet start user-1 --dir "$dir/net" --quiet >/dev/null
aws s3 rb --force s3://awscli >/dev/null

say "s3cmd"
s3cmd() { "$env/bin/s3cmd" --config /dev/null --host "${AWS_ENDPOINT_URL#http://}" --host-bucket "${AWS_ENDPOINT_URL#http://}" --no-ssl --access_key "$AWS_ACCESS_KEY_ID" --secret_key "$AWS_SECRET_ACCESS_KEY" --quiet "$@"; }
s3cmd mb s3://s3cmd
s3cmd put --recursive "$dir/in/" s3://s3cmd/in/
head -c 16000000 /dev/urandom >"$dir/sixteen"
s3cmd put "$dir/sixteen" "s3://s3cmd/a & + % é 空"
s3cmd get "s3://s3cmd/a & + % é 空" "$dir/s3cmd-out"
cmp "$dir/sixteen" "$dir/s3cmd-out" || die "s3cmd get: what came back differs"
mkdir "$dir/s3cmd-in"
s3cmd sync s3://s3cmd/in/ "$dir/s3cmd-in/"
same "$dir/in" "$dir/s3cmd-in" "s3cmd sync"
s3cmd del --recursive --force s3://s3cmd
s3cmd rb s3://s3cmd

say "rclone"
export RCLONE_CONFIG=/dev/null RCLONE_CONFIG_T_TYPE=s3 RCLONE_CONFIG_T_PROVIDER=Other RCLONE_CONFIG_T_ENV_AUTH=true RCLONE_CONFIG_T_ENDPOINT="$AWS_ENDPOINT_URL"
rclone --quiet mkdir t:rclone
# moved: syncs and says how many objects that moved.
moved() { rclone sync "$dir/in" t:rclone/in -v --use-json-log --stats 1h 2>&1 | grep -c '"object"' || true; }
first=$(moved) again=$(moved)
[ "$first" = 11 ] || die "rclone sync moves $first objects of 11"
[ "$again" = 0 ] || die "rclone sync moves $again objects the second time"
rclone --quiet check "$dir/in" t:rclone/in || die "rclone check finds differences"
rclone --quiet check --download "$dir/in" t:rclone/in || die "rclone check --download finds differences"
head -c 5000000 /dev/urandom >"$dir/in/sub2/six"
rm "$dir/in/empty"
rclone --quiet sync "$dir/in" t:rclone/in
rclone --quiet sync t:rclone/in "$dir/rclone-out"
same "$dir/in" "$dir/rclone-out" "rclone sync"
head -c 3000000 /dev/urandom | tee "$dir/streamed" | rclone --quiet rcat "t:rclone/streamed" --streaming-upload-cutoff 100k
rclone --quiet cat t:rclone/streamed | cmp - "$dir/streamed" || die "rclone rcat: what came back differs"
"$TRULLO" --home "$home" ls /rclone/in/sub >"$dir/ls"
grep -q 'file 3 & co' "$dir/ls" || die "trullo ls does not show what rclone put: $(cat "$dir/ls")"
rclone --quiet purge t:rclone

say "restic"
export RESTIC_PASSWORD=secret RESTIC_REPOSITORY="s3:$AWS_ENDPOINT_URL/restic"
restic init --quiet
restic backup --quiet "$dir/in"
head -c 2000000 /dev/urandom >"$dir/in/sub2/new"
restic backup --quiet "$dir/in"
restic check --quiet --read-data
restic forget --quiet --keep-last 1 --prune
restic check --quiet
restic restore --quiet latest --target "$dir/restic-out"
same "$dir/in" "$dir/restic-out$dir/in" "restic restore"

say "all clients are content"
