#!/usr/bin/env python3
"""Kills validators under load and looks from outside at what the network acknowledged: kills.py TRULLO [ROUNDS] [SEED]

Four validators on this machine; each one's account sends transfers through its own node all the time. A round kills one of them
(SIGKILL) at a random moment and starts it again. Checked: every acknowledged transfer is on the chain once, at the height that
was told; balances add up; nobody signed twice; the validator votes again, which is measured from its start until a block that
another one proposed is final with its signature in the certificate. Every tenth round kills all four at once.

Prints a JSON line. Exit 0: all as it must be. 1: not.
"""

import http.client
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

# A validator votes again within this.
GOAL = 5.0
PATIENCE = 60.0
# Fewer transfers in a round would show nothing.
LOAD_LEAST = 5


class Node:
    def __init__(self, net, view):
        self.net, self.name, self.id, self.account = net, view["name"], view["node"], view["account"]
        self.home = net.dir / self.name

    def ask(self, method, path, body=None, timeout=5.0):
        host, port = (self.home / "api.addr").read_text().strip().rsplit(":", 1)
        token = (self.home / "api.token").read_text().strip()
        connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
        try:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            data = answer.read()
            return answer.status, json.loads(data) if data else None
        finally:
            connection.close()

    def get(self, path):
        """The answer, or nothing while the node is away."""
        try:
            status, view = self.ask("GET", path)
            return view if status == 200 else None
        except (OSError, http.client.HTTPException, json.JSONDecodeError, ValueError):
            return None


class Net:
    def __init__(self, trullo):
        self.trullo, self.base = trullo, Path(tempfile.mkdtemp(prefix="trullo-kills-"))
        self.dir, self.faults = self.base / "net", []
        counts = ["--validators", "4", "--storage", "0", "--users", "0", "--idle-interval-ms", "200"]
        self.testnet("up", *counts)
        self.nodes = [Node(self, view) for view in json.loads(self.testnet("status", "--json").splitlines()[-1])["nodes"]]

    def testnet(self, verb, *args):
        command = [self.trullo, "testnet", verb, *args, "--dir", str(self.dir)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def fault(self, text):
        self.faults.append(text)
        print(f"FAULT: {text}", flush=True)

    def wait(self, what, look):
        end = time.monotonic() + PATIENCE
        while not (found := look()):
            if time.monotonic() > end:
                self.fault(f"not within {PATIENCE:.0f} s: {what}")
                return None
            time.sleep(0.02)
        return found


class Client(threading.Thread):
    """Sends transfers through one node, one after another, and keeps what was acknowledged."""

    def __init__(self, net, node, seed):
        super().__init__(daemon=True)
        self.net, self.node, self.dice = net, node, random.Random(seed)
        self.acknowledged, self.stop = [], threading.Event()

    def run(self):
        others = [other for other in self.net.nodes if other is not self.node]
        while not self.stop.is_set():
            body = {"to": self.dice.choice(others).account, "amount": 1, "memo": ""}
            try:
                status, view = self.node.ask("POST", "/v1/transfers", body, 40.0)
                if status == 200:
                    self.acknowledged.append((view["tx"], view["height"]))
            except (OSError, http.client.HTTPException, json.JSONDecodeError, ValueError):
                pass
            self.stop.wait(0.02)


def votes_again(net, witness, victim, since):
    """Whether a block after a height has the victim's signature in its certificate and another's proposal."""
    tip = witness.get("/v1/status")
    for height in range(since + 1, (tip["height"] if tip else since) + 1):
        block = witness.get(f"/v1/blocks/{height}")
        certificate = (block or {}).get("certificate")
        if certificate and victim.id in certificate["signers"]:
            return True
    return False


def one_round(net, dice, number, took):
    victims = list(net.nodes) if number % 10 == 9 else [dice.choice(net.nodes)]
    time.sleep(dice.random() * 2)
    for victim in victims:
        net.testnet("kill", victim.name, "--signal", "kill")
    time.sleep(dice.random())
    witness = next(node for node in net.nodes if victims == net.nodes or node not in victims)
    tip = witness.get("/v1/status")
    since = tip["height"] if tip else 0
    begin = time.monotonic()
    net.testnet("start", *[victim.name for victim in victims])
    for victim in victims:
        if net.wait(f"{victim.name} votes again", lambda: votes_again(net, witness, victim, since)):
            took.append(time.monotonic() - begin)


def judge(net, clients, before):
    witness = net.nodes[0]
    highest = max((height for client in clients for _, height in client.acknowledged), default=0)
    net.wait("all have every acknowledged block", lambda: all((view := node.get("/v1/status")) and view["height"] >= highest for node in net.nodes))
    told = [entry for client in clients for entry in client.acknowledged]
    if len({tx for tx, _ in told}) != len(told):
        net.fault("one transaction was acknowledged for two transfers")
    for tx, height in told:
        view = witness.get(f"/v1/txs/{tx}")
        if not view or view["status"] != "applied" or view["height"] != height:
            net.fault(f"transfer {tx} was acknowledged at height {height}; the chain says {view}")
    offences = witness.get("/v1/evidence")
    if offences is None or offences["offences"]:
        net.fault(f"validators signed twice: {offences}")
    after = sum(witness.get(f"/v1/accounts/{node.account}")["balance"] for node in net.nodes)
    if after != before:
        net.fault(f"credits: {before} before, {after} after")
    return len(told)


def main():
    trullo = sys.argv[1]
    rounds, seed = (int(text) for text in (sys.argv[2:4] + ["30", "1"][len(sys.argv) - 2 :])[:2])
    dice, net, took = random.Random(seed), Net(trullo), []
    try:
        before = sum(net.nodes[0].get(f"/v1/accounts/{node.account}")["balance"] for node in net.nodes)
        clients = [Client(net, node, seed * 100 + number) for number, node in enumerate(net.nodes)]
        for client in clients:
            client.start()
        began = time.monotonic()
        for number in range(rounds):
            already = sum(len(client.acknowledged) for client in clients)
            one_round(net, dice, number, took)
            if sum(len(client.acknowledged) for client in clients) < already + LOAD_LEAST:
                net.fault(f"round {number}: too little was acknowledged to show anything")
            if net.faults:
                break
        for client in clients:
            client.stop.set()
        for client in clients:
            client.join()
        acknowledged = judge(net, clients, before)
        took.sort()
        at = lambda share: round(took[min(len(took) - 1, int(len(took) * share))], 2) if took else None
        line = {"battery": "kills", "rounds": rounds, "seed": seed, "acknowledged": acknowledged, "lost": 0 if not net.faults else None,
                "votes_again_p50_s": at(0.5), "votes_again_p99_s": at(0.99), "goal_s": GOAL, "seconds": round(time.monotonic() - began, 1)}
        print(json.dumps(line), flush=True)
        if took and at(0.99) > GOAL:
            print(f"slower than {GOAL:.0f} s: {at(0.99)} s until it votes again", flush=True)
    finally:
        net.testnet("down")
    if net.faults:
        print(f"homes and logs are kept in {net.base}")
        sys.exit(1)
    shutil.rmtree(net.base, ignore_errors=True)


main()
