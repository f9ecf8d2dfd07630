#!/usr/bin/env python3
"""Cuts a network of real processes apart and looks from outside at what it acknowledged: partitions.py TRULLO [ROUNDS] [SEED]

Every node runs in a network namespace of its own, and a round drops packets between some of them with nftables: 2+2, 3+1, a
ring, a bridge, one-way links, links that flap every second; with five validators 3+2, with seven 4+3 and a cascade that takes
one after another down to a quorum and below it. Five rounds take four validators; of more, a third each four, five and seven.

Meanwhile each validator's account sends transfers through its own node and reads. From outside is checked: what a node
acknowledged is on the chain, once, at the height it said; what it refused never is; transfers take effect in the order in which
clients saw them end and begin; balances add up, in every read and at the end; what a node says is final never goes back; a
side without a quorum says so, names who is missing, marks its reads, refuses writes and makes nothing final; one with a quorum
goes on; and after the links are back every node goes on by itself.

Exit 0: all as it must be. 1: not. 77: no network namespaces here (root, ip and nft are needed).
"""

import ctypes
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SKIP = 77
CLONE_NEWNET = 0x40000000
# A side without a quorum says so within this, and nodes go on within this after the links are back.
TOLD_WITHIN = 15.0
BACK_WITHIN = 16.0
# A transfer that is answered later than this is one of which nothing is known.
PATIENCE = 40.0
LIBC = ctypes.CDLL(None, use_errno=True)
# The namespace in which this began: requests leave a thread in that of a node.
HERE = os.open("/proc/self/ns/net", os.O_RDONLY)


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Node:
    """A validator: its home, its namespace, its process."""

    def __init__(self, net, number, view):
        self.net, self.number, self.name = net, number, view["name"]
        self.id, self.account = view["node"], view["account"]
        self.home, self.api = net.dir / self.name, view["api"]
        self.space, self.ip = f"{net.tag}-{number}", f"10.231.0.{number + 1}"
        self.port = 20_000 + number
        self.token = None
        self.process = None
        self.high = 0

    def create_space(self):
        inner, outer = "uplink", f"{self.net.tag}v{self.number}"
        run("ip", "netns", "add", self.space)
        run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", self.space)
        run("ip", "link", "set", outer, "master", self.net.tag, "up")
        inside = ["ip", "-n", self.space]
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "addr", "add", f"{self.ip}/24", "dev", inner)
        run(*inside, "link", "set", inner, "up")
        rules = "table inet cut { set from { type ipv4_addr; }; chain in { type filter hook input priority 0; ip saddr @from drop; }; }"
        run("ip", "netns", "exec", self.space, "nft", rules)
        self.handle = os.open(f"/run/netns/{self.space}", os.O_RDONLY)

    def start(self):
        others = [f"/ip4/{node.ip}/tcp/{node.port}/p2p/{self.net.peers[node.name]}" for node in self.net.nodes if node is not self]
        sets = [f"net.listen=/ip4/{self.ip}/tcp/{self.port}", f"net.bootstrap={','.join(others)}"]
        options = [part for text in sets for part in ("--set", text)]
        command = [self.net.trullo, "--home", str(self.home), *options, "node", "run"]
        log = open(self.home / "battery.log", "ab")
        self.process = subprocess.Popen(["ip", "netns", "exec", self.space, *command], stdout=log, stderr=log)

    def ask(self, method, path, body=None, timeout=5.0):
        """Status, headers and JSON of a request, sent from the node's own namespace; namespaces are a thread's."""
        if LIBC.setns(self.handle, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        if self.token is None:
            self.token = (self.home / "api.token").read_text().strip()
        host, port = self.api.split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
        try:
            headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            data = answer.read()
            return answer.status, answer.headers, json.loads(data) if data else None
        finally:
            connection.close()

    def status(self):
        status, headers, view = self.ask("GET", "/v1/status")
        if status != 200:
            raise RuntimeError(f"{self.name}: status {status}: {view}")
        with self.net.lock:
            if view["height"] < self.high:
                self.net.fault(f"{self.name} went back from height {self.high} to {view['height']}")
            self.high = max(self.high, view["height"])
        view["stale_header"] = headers.get("Trullo-Stale")
        return view


class Net:
    """A bridge, namespaces on it, and the nodes in them."""

    def __init__(self, trullo, validators):
        self.trullo, self.tag = trullo, f"tr{os.getpid() % 100_000}"
        self.base = Path(tempfile.mkdtemp(prefix="trullo-partitions-"))
        self.dir = self.base / "net"
        self.lock, self.faults = threading.Lock(), []
        counts = ["--validators", str(validators), "--storage", "0", "--users", "0", "--idle-interval-ms", "500"]
        run(trullo, "testnet", "up", "--dir", str(self.dir), *counts, "--json")
        views = json.loads(run(trullo, "testnet", "status", "--dir", str(self.dir), "--json").splitlines()[-1])["nodes"]
        run(trullo, "testnet", "down", "--dir", str(self.dir))
        self.nodes = [Node(self, number, view) for number, view in enumerate(views)]
        self.peers = {}
        for node in self.nodes[:2]:
            # A node's bootstrap list names the other validators in the order in which they were made.
            lines = (node.home / "config.toml").read_text().splitlines()
            listed = json.loads(next(line for line in lines if line.startswith("bootstrap")).split("=", 1)[1])
            others = [other for other in self.nodes if other is not node]
            self.peers.update((other.name, address.rsplit("/", 1)[1]) for other, address in zip(others, listed, strict=True))
        run("ip", "link", "add", self.tag, "type", "bridge")
        run("ip", "link", "set", self.tag, "up")
        for node in self.nodes:
            node.create_space()
        for node in self.nodes:
            node.start()
        self.wait("all nodes are ready", 60, lambda: all(self.look(node, lambda view: view["ready"]) for node in self.nodes))

    def look(self, node, good):
        try:
            return good(node.status())
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            return False

    def wait(self, what, seconds, look):
        begin = time.monotonic()
        while not look():
            if time.monotonic() - begin > seconds:
                self.fault(f"not within {seconds:.0f} s: {what}")
                return None
            time.sleep(0.05)
        return time.monotonic() - begin

    def fault(self, text):
        self.faults.append(text)
        print(f"FAULT: {text}", flush=True)

    def cut(self, pairs):
        """From now on exactly these ordered pairs of numbers do not hear each other: the second not the first."""
        for node in self.nodes:
            deaf = ", ".join(self.nodes[a].ip for a, b in sorted(pairs) if b == node.number)
            rules = "flush set inet cut from\n" + (f"add element inet cut from {{ {deaf} }}\n" if deaf else "")
            subprocess.run(["ip", "netns", "exec", node.space, "nft", "-f", "-"], input=rules, text=True, check=True)

    def down(self):
        LIBC.setns(HERE, CLONE_NEWNET)
        for node in self.nodes:
            if node.process and node.process.poll() is None:
                node.process.send_signal(signal.SIGTERM)
        for node in self.nodes:
            if node.process:
                try:
                    node.process.wait(10)
                except subprocess.TimeoutExpired:
                    node.process.kill()
            subprocess.run(["ip", "netns", "del", node.space], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self.tag], capture_output=True, check=False)
        if self.faults:
            print(f"homes and logs are kept in {self.base}")
        else:
            shutil.rmtree(self.base, ignore_errors=True)


class Client(threading.Thread):
    """Sends transfers through one node, one after another, and reads between them. Keeps what it was told."""

    def __init__(self, net, node, seed):
        super().__init__(daemon=True)
        self.net, self.node, self.dice = net, node, random.Random(seed)
        self.writes, self.reads, self.stop, self.last = [], [], threading.Event(), 0

    def run(self):
        number = 0
        while not self.stop.is_set():
            number += 1
            to = self.dice.choice([node for node in self.net.nodes if node is not self.node])
            memo = f"{self.node.name}/{number}"
            write = {"memo": memo, "node": self.node.name, "from": self.node.account, "to": to.account,
                     "amount": self.dice.randint(1, 50), "begin": time.monotonic(), "result": "unknown"}
            self.writes.append(write)
            body = {"to": to.account, "amount": write["amount"], "memo": memo}
            try:
                status, _, view = self.node.ask("POST", "/v1/transfers", body, PATIENCE)
                if status == 200:
                    write.update(result="done", height=view["height"])
                    self.last = max(self.last, view["height"])
                elif status == 503 and view["type"].endswith(":partitioned"):
                    write.update(result="refused", code=view["code"], detail=view["detail"])
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                pass
            write["end"] = time.monotonic()
            self.read()
            self.stop.wait(0.05 if write["result"] == "done" else 0.5)

    def read(self):
        try:
            status, headers, view = self.node.ask("GET", "/v1/accounts/me")
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            return
        if status != 200:
            return
        if view["height"] < self.last:
            self.net.fault(f"{self.node.name} read height {view['height']} after it had been told of {self.last}")
        self.last = max(self.last, view["height"])
        self.reads.append((view["height"], self.node.account, view["balance"], headers.get("Trullo-Stale")))


def groups_of(shape, order):
    """Groups without a link between them."""
    sizes = {"2+2": [2, 2], "3+1": [3, 1], "3+2": [3, 2], "4+3": [4, 3]}[shape]
    groups, rest = [], list(order)
    for size in sizes:
        groups.append(rest[:size])
        rest = rest[size:]
    return groups


def pairs_of(shape, order, net_size):
    """Ordered pairs that are cut."""
    everybody = [(a, b) for a in range(net_size) for b in range(net_size) if a != b]
    if shape in ("2+2", "3+1", "3+2", "4+3"):
        side = {node: at for at, group in enumerate(groups_of(shape, order)) for node in group}
        return [(a, b) for a, b in everybody if side[a] != side[b]]
    place = {node: at for at, node in enumerate(order)}
    apart = lambda a, b: abs(place[a] - place[b])
    if shape == "ring":
        return [(a, b) for a, b in everybody if apart(a, b) not in (1, net_size - 1)]
    if shape == "bridge":
        half = (net_size - 1) // 2
        side = lambda node: 0 if place[node] == 0 else 1 if place[node] <= half else 2
        return [(a, b) for a, b in everybody if {side(a), side(b)} == {1, 2}]
    if shape == "one-way":
        return [(a, b) for a, b in everybody if place[a] < net_size // 2 <= place[b]]
    gone = set(order[: {"flap": net_size // 2}[shape]])
    return [(a, b) for a, b in everybody if (a in gone) != (b in gone)]


def quorum(size):
    return size * 2 // 3 + 1


def check_sides(net, groups, what):
    """Each side is as its size demands: the one with a quorum goes on, the others say whom they miss and stand still."""
    heights = {node.name: node.status()["height"] for node in net.nodes}
    for group in groups:
        nodes = [net.nodes[at] for at in group]
        if len(group) >= quorum(len(net.nodes)):
            net.wait(f"{what}: {', '.join(n.name for n in nodes)} go on", TOLD_WITHIN,
                     lambda: all(n.status()["height"] > heights[n.name] + 2 for n in nodes))
            continue
        missing = sorted(node.id for node in net.nodes if node not in nodes)

        def told(view):
            seen = view["network"]
            return seen["state"] == "partitioned" and sorted(m["node"] for m in seen["missing"]) == missing
        if net.wait(f"{what}: {', '.join(n.name for n in nodes)} name who is missing", TOLD_WITHIN,
                    lambda: all(told(n.status()) for n in nodes)) is None:
            for node in nodes:
                print(node.name, node.status()["network"])
        stand = [node.status()["height"] for node in nodes]
        for node in nodes:
            view = node.status()
            if view["stale_header"] is None or not view["stale"]:
                net.fault(f"{what}: {node.name} does not mark what it reads")
            status, _, problem = node.ask("POST", "/v1/transfers", {"to": net.nodes[0].account, "amount": 1, "memo": "refuse"})
            if status != 503 or problem["code"] != 6 or "missing: " not in problem["detail"]:
                net.fault(f"{what}: {node.name} answers a write with {status}: {problem}")
            if b"trullo_partitioned 1" not in metrics(node):
                net.fault(f"{what}: {node.name} has no metric of it")
        time.sleep(1)
        if [node.status()["height"] for node in nodes] != stand:
            net.fault(f"{what}: {', '.join(n.name for n in nodes)} made something final")


def metrics(node):
    host, port = node.api.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    connection.request("GET", "/metrics")
    return connection.getresponse().read()


def heal(net):
    """Mends all links. Seconds until every node has a block that none had, and says that all is well."""
    high = max(node.status()["height"] for node in net.nodes)
    net.cut([])
    begin = time.monotonic()

    def well(view):
        return view["height"] > high and view["network"]["state"] == "ok"
    first = []

    def look():
        views = [node.status() for node in net.nodes]
        if not first and any(view["height"] > high for view in views):
            first.append(time.monotonic() - begin)
        return all(well(view) for view in views)
    took = net.wait("every node goes on after the links are back", BACK_WITHIN, look)
    return (first[0] if first else None), took


def one_round(net, shape, dice):
    size = len(net.nodes)
    order = dice.sample(range(size), size)
    if shape == "flap":
        pairs = pairs_of(shape, order, size)
        for _ in range(5):
            net.cut(pairs)
            time.sleep(1)
            net.cut([])
            time.sleep(1)
    elif shape == "cascade":
        for gone in range(1, size - quorum(size) + 2):
            cut = set(order[:gone])
            net.cut([(a, b) for a in range(size) for b in range(size) if a != b and (a in cut or b in cut)])
            check_sides(net, [order[gone:]] + ([[order[0]]] if gone > 1 else []), f"{gone} of {size} gone")
    else:
        net.cut(pairs_of(shape, order, size))
        if "+" in shape:
            check_sides(net, groups_of(shape, order), shape)
        else:
            time.sleep(dice.uniform(3, 6))
    first, took = heal(net)
    return [net.nodes[at].name.removeprefix("validator-") for at in order], first, took


def check_history(net, clients, initial):
    """The chain, replayed from outside, beside what clients were told."""
    for client in clients:
        client.stop.set()
    for client in clients:
        client.join(PATIENCE + 10)
        if client.is_alive():
            net.fault(f"the client of {client.node.name} does not end")
    writes = [write for client in clients for write in client.writes if "end" in write]
    # Whatever is still under way becomes final, or never does.
    high = max(node.status()["height"] for node in net.nodes)
    net.wait("all nodes reach one height", 30, lambda: all(node.status()["height"] >= high + 2 for node in net.nodes))
    top = min(node.status()["height"] for node in net.nodes)
    node, balances, found, at_height = net.nodes[0], dict(initial), {}, {0: dict(initial)}
    for height in range(1, top + 1):
        _, _, block = node.ask("GET", f"/v1/blocks/{height}")
        for tx in block["transactions"]:
            action = tx["action"]
            if action.get("type") != "transfer":
                continue
            if action.get("memo") == "refuse":
                net.fault(f"a write that was refused is final at height {height}")
            if tx["status"] == "applied":
                balances[tx["sender"]] -= action["amount"]
                balances[action["to"]] += action["amount"]
                found.setdefault(action["memo"], []).append((height, tx["index"], tx["sender"], action["to"], action["amount"]))
        at_height[height] = dict(balances)
        for other in net.nodes[1:]:
            _, _, same = other.ask("GET", f"/v1/blocks/{height}")
            if same["hash"] != block["hash"]:
                net.fault(f"{other.name} has another block {height} than {node.name}")
    if sum(balances.values()) != sum(initial.values()) or min(balances.values()) < 0:
        net.fault("the balances do not add up")
    for write in writes:
        places = found.get(write["memo"], [])
        if len(places) > 1 or (write["result"] == "refused" and places) or (write["result"] == "done" and not places):
            net.fault(f"{write['memo']} was {write['result']} and is {len(places)} times on the chain")
        for height, _, sender, to, amount in places:
            if (sender, to, amount) != (write["from"], write["to"], write["amount"]):
                net.fault(f"{write['memo']} is on the chain as something else")
            if write["result"] == "done" and height != write["height"]:
                net.fault(f"{write['memo']} was told to be at {write['height']} and is at {height}")
    # What had ended before something else began comes before it.
    done = [write for write in writes if write["result"] == "done" and write["memo"] in found]
    ends = sorted(done, key=lambda write: write["end"])
    latest, at = (0, 0), 0
    for write in sorted(done, key=lambda write: write["begin"]):
        while at < len(ends) and ends[at]["end"] < write["begin"]:
            latest = max(latest, found[ends[at]["memo"]][0][:2])
            at += 1
        if found[write["memo"]][0][:2] <= latest:
            net.fault(f"{write['memo']} took effect before one that had ended before it began")
    for client in clients:
        for height, account, balance, _ in client.reads:
            if height <= top and at_height[height][account] != balance:
                net.fault(f"at height {height} {account} was read as {balance}, and is {at_height[height][account]}")
    for other in net.nodes:
        _, _, view = other.ask("GET", "/v1/accounts/me")
        if view["balance"] != at_height.get(view["height"], balances)[other.account]:
            net.fault(f"{other.name} has another balance than the chain")
    count = lambda result: sum(1 for write in writes if write["result"] == result)
    reads = [read for client in clients for read in client.reads]
    stale = sum(1 for read in reads if read[3] is not None)
    return f"{count('done')} acknowledged, {count('refused')} refused, {count('unknown')} unknown transfers, {len(reads)} reads ({stale} marked), {top} blocks"


SHAPES = {
    4: ["2+2", "3+1", "ring", "one-way", "flap"],
    5: ["3+2", "bridge", "one-way", "flap", "ring"],
    7: ["4+3", "cascade", "bridge", "ring", "one-way", "flap"],
}


def campaign(trullo, size, rounds, seed):
    dice, net = random.Random(f"{seed}/{size}"), Net(trullo, size)
    times, faults = [], 1
    try:
        initial = {node.account: node.ask("GET", "/v1/accounts/me")[2]["balance"] for node in net.nodes}
        clients = [Client(net, node, f"{seed}/{node.name}") for node in net.nodes]
        for client in clients:
            client.start()
        for number in range(rounds):
            shape = SHAPES[size][number % len(SHAPES[size])]
            order, first, took = one_round(net, shape, dice)
            times.append((shape, first, took))
            text = lambda seconds: "never" if seconds is None else f"{seconds:.2f} s"
            print(f"round {number + 1} of {rounds}, {size} validators, {shape} of {' '.join(order)}: "
                  f"next block after {text(first)}, all well after {text(took)}", flush=True)
            if net.faults:
                break
        print(f"{size} validators: {check_history(net, clients, initial)}", flush=True)
        faults = len(net.faults)
    finally:
        net.down()
    return times, faults


def can_cut():
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("nft"):
        return False
    name = f"tr{os.getpid() % 100_000}t"
    try:
        run("ip", "netns", "add", name)
        run("ip", "netns", "exec", name, "nft", "table inet cut { chain in { type filter hook input priority 0; }; }")
        return True
    except RuntimeError:
        return False
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    trullo, rounds, seed = sys.argv[1], int((sys.argv + ["5"])[2] if len(sys.argv) > 2 else 5), int(sys.argv[3]) if len(sys.argv) > 3 else 1
    if not can_cut():
        print("skipped: partitions need root, network namespaces (ip) and nftables (nft)")
        sys.exit(SKIP)
    sizes = [(4, rounds)] if rounds <= 5 else [(4, rounds - 2 * (rounds // 3)), (5, rounds // 3), (7, rounds // 3)]
    faults, times = 0, []
    for size, count in sizes:
        some, bad = campaign(trullo, size, count, seed)
        times, faults = times + some, faults + bad
    waits = sorted(took for _, _, took in times if took is not None)
    if waits:
        print(f"{len(times)} rounds; all well after the links were back: median {waits[len(waits) // 2]:.2f} s, longest {waits[-1]:.2f} s")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
