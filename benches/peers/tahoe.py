#!/usr/bin/env python3
"""Tahoe-LAFS 1.20 on this machine: an introducer, five storage nodes and a client, 3-of-5, on loopback.

tahoe.py up DIR      makes and starts them; prints {"web", "client", "storage": [{"pid", "shares"}]} when all are connected
tahoe.py down DIR    stops them and removes DIR
tahoe.py figures     puts, gets and repairs 100 MB by itself and prints one JSON line for each figure

The program comes from PyPI into a virtual environment in $TRULLO_CACHE/tahoe. `cargo bench --bench keep` uses `up` and
`down` and measures both programs by the same client.
"""

import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

VERSION = "1.20.0"
SERVERS = 5
SHARES = ["--shares-needed=3", "--shares-happy=5", "--shares-total=5"]
UP_WITHIN_S = 90


def program() -> str:
    """The tahoe command of a virtual environment, which is made the first time."""
    cache = os.environ.get("TRULLO_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "trullo"
    )
    env = Path(cache) / "tahoe"
    tahoe = env / "bin" / "tahoe"
    if not tahoe.exists():
        say(f"installing tahoe-lafs {VERSION} into {env}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", env], check=True)
        subprocess.run([env / "bin" / "pip", "install", "--quiet", f"tahoe-lafs=={VERSION}"], check=True, stdout=sys.stderr)
    return str(tahoe)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(tahoe: str, home: Path) -> int:
    """Starts the node of a home as a process of its own session; its id lies beside the home."""
    with open(home.with_suffix(".log"), "ab") as log:
        node = subprocess.Popen([tahoe, "run", "--allow-stdin-close", home], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    home.with_suffix(".pid").write_text(str(node.pid))
    return node.pid


def wait(what: str, look):
    end = time.monotonic() + UP_WITHIN_S
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    sys.exit(f"not within {UP_WITHIN_S} s: {what}")


def fetch(url: str, data: bytes | None = None, method: str | None = None) -> bytes:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(urllib.request.Request(url, data=data, method=method)) as answer:
        return answer.read()


def connected(web: str) -> bool:
    try:
        servers = json.loads(fetch(web + "?t=json"))["servers"]
    except OSError:
        return False
    return sum((s.get("connection_status") or "").lower().startswith("connected") for s in servers) == SERVERS


def up(home: Path) -> dict:
    tahoe = program()
    home.mkdir(parents=True)
    run = lambda *args: subprocess.run([tahoe, *args], check=True, stdout=subprocess.DEVNULL)

    def listen() -> list:
        port = free_port()
        return [f"--port=tcp:{port}:interface=127.0.0.1", f"--location=tcp:127.0.0.1:{port}"]

    introducer = home / "introducer"
    run("create-introducer", *listen(), introducer)
    start(tahoe, introducer)
    furl = introducer / "private" / "introducer.furl"
    wait("the introducer's address", furl.exists)
    join = f"--introducer={furl.read_text().strip()}"
    storage = []
    for n in range(1, SERVERS + 1):
        node = home / f"storage-{n}"
        run("create-node", "--webport=none", join, f"--nickname=storage-{n}", *SHARES, *listen(), node)
        storage.append({"pid": start(tahoe, node), "shares": str(node / "storage" / "shares")})
    client = home / "client"
    run("create-client", f"--webport=tcp:{free_port()}:interface=127.0.0.1", join, *SHARES, client)
    pid = start(tahoe, client)
    web = wait("the client's address", lambda: (client / "node.url").exists() and (client / "node.url").read_text().strip())
    wait("every storage node is connected", lambda: connected(web))
    return {"web": web, "client": pid, "storage": storage}


def down(home: Path) -> None:
    for file in home.glob("*.pid"):
        try:
            os.killpg(int(file.read_text()), signal.SIGKILL)
        except (ProcessLookupError, ValueError):
            pass
    shutil.rmtree(home, ignore_errors=True)


def lose_shares(net: dict) -> None:
    """Removes two shares of every large file, wherever they are."""
    for server in net["storage"]:
        for share in Path(server["shares"]).rglob("*"):
            if share.name in ("0", "1") and share.stat().st_size > 1_000_000:
                share.unlink()


def peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def figures() -> None:
    home = Path(tempfile.mkdtemp(prefix="tahoe-")) / "net"
    try:
        net = up(home)
        measure(net)
    finally:
        down(home)
        shutil.rmtree(home.parent, ignore_errors=True)


def measure(net: dict) -> None:
    def timed(work):
        os.sync()
        begun = time.perf_counter()
        done = work()
        return time.perf_counter() - begun, done

    def line(what: str, times: list, size: int | None = None, **more) -> None:
        out = {"bench": "keep", "who": "tahoe", "what": what, "seconds_best": round(min(times), 4)}
        out |= {"seconds_median": round(statistics.median(times), 4)}
        if size:
            out["mb_per_s_best"] = round(size / 1e6 / min(times), 1)
        print(json.dumps(out | more), flush=True)

    size, web = 100_000_000, net["web"]
    puts, gets, small, repairs, last = [], [], [], [], b""
    for _ in range(3):
        data = os.urandom(size)
        took, cap = timed(lambda: fetch(web + "uri", data, "PUT"))
        puts.append(took)
        took, last = timed(lambda: fetch(f"{web}uri/{cap.decode()}"))
        gets.append(took)
        assert last == data, "other bytes came back"
    for _ in range(50):
        data = os.urandom(10_000)
        small.append(timed(lambda: fetch(web + "uri", data, "PUT"))[0])
    stored = sum(f.stat().st_size for s in net["storage"] for f in Path(s["shares"]).rglob("*") if f.is_file())
    for _ in range(3):
        lose_shares(net)
        took, answer = timed(lambda: fetch(f"{web}uri/{cap.decode()}?t=check&repair=true&output=JSON", b"", "POST"))
        assert json.loads(answer)["repair-successful"], answer
        repairs.append(took)
    line("put", puts, size)
    line("get", gets, size)
    line("put of 10 kB", small)
    line("repair of 2 lost shares", repairs)
    peaks = [peak_mib(server["pid"]) for server in net["storage"]]
    sums = {"stored": stored, "plain": 3 * size + 500_000, "client_mib": round(peak_mib(net["client"]), 1)}
    print(json.dumps({"bench": "keep", "who": "tahoe", "what": "peak and stored", **sums, "storage_mib": round(max(peaks), 1)}))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["up", home]:
            print(json.dumps(up(Path(home))), flush=True)
        case ["down", home]:
            down(Path(home))
        case ["figures"]:
            figures()
        case _:
            sys.exit(__doc__)
