#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""stress.py [-s SECONDS] [-n CALLERS] [--seed N] [--keep] - two gateways and a sidecar under callers and services that misbehave.

Shows: whatever comes in whatever order, no answer goes to another caller, no POST arrives twice, nothing forged gets through,
no sanitizer speaks, both books verify and balance with an end for each beginning, and no descriptor or memory is left over.
Half of the time roles are killed, links cut and everything reloaded; then links are cut and policies swapped only, and what the
workers hold at the end is compared with what they held before. B names the build directory.
"""
import argparse
import json
import os
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "e2e")]
os.environ.setdefault("ASAN_OPTIONS", "quarantine_size_mb=16:detect_leaks=0")

from bed.domains import Domain, rule  # noqa: E402
from bed.gateway import FAULT, Gateway, wait  # noqa: E402
from bed.net import Namespace, die_with_us  # noqa: E402
from bed.tls import context  # noqa: E402
from callers import Caller  # noqa: E402
from origin import Echo, Origin, rst  # noqa: E402

APP, COBOL, SIDE = ("spiffe://hud.example/" + n for n in ("app", "cobol", "side"))
CLIENT = "127.77.9.1"


class Relay:
    """Between the gateways: can cut every connection, or say nothing more."""

    def __init__(self, ns, at, to):
        self.ns, self.to, self.deaf, self.pairs = ns, to, False, set()
        self.sock = ns.listen(at)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                a, _ = self.sock.accept()
                b = self.ns.connect(self.to)
            except OSError:
                if self.sock.fileno() < 0:
                    return
                continue
            b.settimeout(None)
            for s in (a, b):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.pairs.add((a, b))
            for x, y in ((a, b), (b, a)):
                threading.Thread(target=self._pump, args=(x, y, (a, b)), daemon=True).start()

    def _pump(self, x, y, pair):
        try:
            while True:
                d = x.recv(262144)
                while self.deaf:
                    time.sleep(0.01)
                if not d:
                    break
                y.sendall(d)
            y.shutdown(socket.SHUT_WR)
        except OSError:
            for s in pair:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        finally:
            if x.fileno() >= 0 and y.fileno() < 0:
                x.close()
            self.pairs.discard(pair)

    def cut(self, hard):
        for a, b in list(self.pairs):
            for s in (a, b):
                if hard:
                    rst(s)
                else:
                    try:
                        s.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass


class Bed:
    legacy, ledger, inside, sidecar = ("127.77.1.2", 8080), ("127.77.1.4", 5432), ("127.77.1.3", 8443), ("127.77.3.1", 8080)

    def __init__(self, folder, seed):
        self.ns = Namespace("stress")
        self.folder, self.client = folder, CLIENT
        hud, irs = Domain(folder + "/pki-hud", "hud.example", "dmz1"), Domain(folder + "/pki-irs", "irs.example", "dmz1")
        names = hud.issue("gateway", "dmz1", "inside", dns=["origin.irs.svc", "local.hud.svc"])
        self.app, side = hud.issue("workload", "app", "app"), hud.issue("workload", "side", "side")
        self.ca = hud.ca.bundle
        who = [{"address": CLIENT + "/32", "principal": COBOL, "allow_local": True}]
        limits = {"drain_timeout": "2s", "body_idle_timeout": "3s", "write_timeout": "4s", "park_timeout": "700ms", "ping_interval": "500ms",
                  "handshakes_per_source": 1000, "keepalive_timeout": "20s", "link_age": "10s"}
        times = {"response_timeout": "2s", "idle_timeout": "4s", "connect_timeout": "1s"}
        here = ["127.77.2.30:9000", "127.77.2.31:9000"]
        self.a = Gateway(self.ns, folder + "/a", {
            "domain": "hud.example", "identity": hud.identity(), "inside": {"certificate": names.crt, "key": names.keyfile},
            "listeners": [
                {"name": "tunnel", "address": "127.77.1.1:8443", "accept": ["peers", "workloads"]},
                {"name": "inside", "address": "127.77.1.3:8443", "accept": ["workloads"]},
                {"name": "legacy", "address": "127.77.1.2:8080", "accept": ["plaintext"], "clients": who},
                {"name": "ledger", "address": "127.77.1.4:5432", "accept": ["tcp"], "service": "db", "clients": who}],
            "peers": [{"name": "irs", "domain": "irs.example", "bundle": irs.ca.bundle, "gateways": [irs.gateway_id], "dial": ["127.77.2.2:8443"]}],
            "services": [dict(times, name="origin", host="origin.irs.svc", via="irs"),
                         dict(times, name="db", host="db.irs.svc:5432", kind="tcp", via="irs"),
                         dict(times, name="local", host="local.hud.svc", endpoints=here)],
            "limits": limits})
        self.b = Gateway(self.ns, folder + "/b", {
            "domain": "irs.example", "identity": irs.identity(),
            "listeners": [{"name": "tunnel", "address": "127.77.2.1:8443", "accept": ["peers"]}],
            "peers": [{"name": "hud", "domain": "hud.example", "bundle": hud.ca.bundle, "assert": ["uid", "address"], "gateways": [hud.gateway_id]}],
            "services": [dict(times, name="origin", host="origin.irs.svc", endpoints=here),
                         dict(times, name="db", host="db.irs.svc:5432", kind="tcp", endpoints=["127.77.2.32:5432"])],
            "limits": limits})
        self.s = Gateway(self.ns, folder + "/s", {
            "domain": "hud.example", "workers": 1, "identity": {"certificate": side.crt, "key": side.keyfile, "bundle": hud.ca.bundle},
            "uplink": {"dial": ["127.77.1.1:8443"], "gateways": [hud.gateway_id]},
            "listeners": [{"name": "local", "address": "127.77.3.1:8080", "accept": ["plaintext"],
                           "clients": [{"uid": str(os.getuid()), "principal": SIDE}]}],
            "services": [dict(times, name="origin", host="origin.irs.svc", via="uplink"), dict(times, name="local", host="local.hud.svc", via="uplink"),
                         dict(times, name="db", host="db.irs.svc:5432", kind="tcp", via="uplink")],
            "limits": limits})
        self.gateways = {"a": self.a, "b": self.b, "s": self.s}
        self.generation = 0
        for g in self.gateways.values():
            self.policy(g)
        self.origin = Origin([self.ns.listen((h.split(":")[0], 9000), 1024) for h in here], seed)
        self.echo = Echo(self.ns.listen(("127.77.2.32", 5432), 1024), seed)
        self.relay = Relay(self.ns, ("127.77.2.2", 8443), ("127.77.2.1", 8443))
        self.ssl = {alpn: context(alpn=[alpn], cert=self.app) for alpn in ("h2", "http/1.1")}

    def policy(self, g):
        self.generation += 1
        everyone, ok = [APP, COBOL, SIDE], [m for m in ("GET", "HEAD", "POST")]
        rules = [rule("http%d" % self.generation, principals=everyone, services=["origin"] + (["local"] if g is not self.b else []), methods=ok),
                 rule("db", principals=everyone, services=["db"])]
        g.policy(rules, [{"name": "denied", "principals": everyone, "services": ["origin"], "paths": ["/denied"]}])

    def connect(self, to, source):
        return self.ns.connect(to, source=source)

    def tls(self, s, alpn):
        return self.ssl[alpn[0]].wrap_socket(s, server_hostname="origin.irs.svc")

    def start(self):
        for g in self.gateways.values():
            g.start(wait_ready=False)
        for g in self.gateways.values():
            g.wait_ready()
        wait("links", lambda: all(g.journal("link-up") for g in self.gateways.values()))

    # ---- what is held
    def workers(self, g):
        st = g.status(check=False)
        return (st or {}).get("workers", [])

    def quiet(self):
        """No exchange runs, nobody is connected: True, or what there is."""
        for n, g in self.gateways.items():
            for w in self.workers(g):
                # The sidecar's uplinks are connections of A.
                if w["exchanges"]["active"] or w["exchanges"]["parked"] or w["handshakes"]:
                    return False
                if w["connections"] and n != "a":
                    return False
                if any(e["active"] for s in w["services"] for e in s["endpoints"]):
                    return False
        return True

    def held(self):
        """{(gateway, pid): (descriptors that nothing explains, RSS)} of the workers."""
        out = {}
        for n, g in self.gateways.items():
            known = {w["instance"]: w for w in self.workers(g)}
            for r in (g.status(check=False) or {}).get("roles", []):
                if r["role"] != "worker" or r["state"] != "ready" or r["instance"] not in known:
                    continue
                w = known[r["instance"]]
                idle = sum(e["idle"] for s in w["services"] for e in s["endpoints"])
                fds = len(os.listdir("/proc/%d/fd" % r["pid"])) - idle - len(w["links"]) - w["connections"]
                with open("/proc/%d/statm" % r["pid"]) as f:
                    out[n, r["pid"]] = fds, int(f.read().split()[1]) * 4096
        return out

    def stop(self):
        faults = []
        for n, g in self.gateways.items():
            try:
                g.stop()
            except AssertionError as e:
                faults.append("gateway %s: %s" % (n, e))
        return faults


class Chaos(threading.Thread):
    def __init__(self, bed, seed, kills):
        super().__init__(daemon=True)
        self.bed, self.rnd, self.kills, self.end = bed, random.Random(seed), kills, threading.Event()
        self.did, self.faults = {}, []

    def run(self):
        while not self.end.wait(self.rnd.uniform(0.3, 1.5)):
            kind = self.rnd.choice(["cut", "cut", "deaf", "policy", "policy"] + (["kill", "kill", "kill", "config"] if self.kills else []))
            g = self.rnd.choice((self.bed.a, self.bed.a, self.bed.b, self.bed.s))
            try:
                kind = getattr(self, kind)(g) or kind
            except (AssertionError, OSError) as e:
                # The gateway may be in the middle of what we did before.
                kind += "-failed"
                if not self.kills:
                    self.faults.append("%s: %s" % (kind, e))
            self.did[kind] = self.did.get(kind, 0) + 1

    def cut(self, g):
        self.bed.relay.cut(self.rnd.random() < 0.5)

    def deaf(self, g):
        self.bed.relay.deaf = True
        self.end.wait(self.rnd.choice((0.1, 0.5, 2.5)))
        self.bed.relay.deaf = False

    def policy(self, g):
        self.bed.policy(g)
        g.reload()

    def config(self, g):
        g.config["limits"]["parked"] = self.rnd.randrange(500, 1000)
        g.write()
        g.reload()

    def kill(self, g):
        role = self.rnd.choice(("worker", "worker", "keys", "journal"))
        pids = g.role(role)
        if pids:
            os.kill(self.rnd.choice(pids), signal.SIGKILL)
        return "kill-" + role

    def stop(self):
        self.end.set()
        self.join()
        self.bed.relay.deaf = False


def books(bed):
    faults = []
    for n, g in bed.gateways.items():
        p = g.ctl("audit", "verify", g.folder + "/journal", check=False)
        if p.returncode:
            faults.append("journal of %s: %s" % (n, (p.stdout + p.stderr).decode()[-1500:]))
        opened, ended = {}, {}
        for r in g.journal():
            key = r.get("exchange"), r.get("attempt")
            if r["msgid"] in ("exchange-open", "exchange"):
                opened[key] = opened.get(key, 0) + 1
            if r["msgid"] in ("exchange-end", "exchange"):
                ended[key] = ended.get(key, 0) + 1
            if r["msgid"] == "alert" and r.get("reason") in ("duplicate-exchange", "ring-broken"):
                faults.append("%s: %s" % (n, r["line"]))
        for key, k in opened.items():
            if k != 1 or ended.get(key) != 1:
                faults.append("%s: exchange %s attempt %s: %d beginnings, %d ends" % (n, *key, k, ended.get(key, 0)))
        faults += ["%s: an end without a beginning: %s" % (n, k) for k in ended if k not in opened]
        print("  journal of %s: %d exchanges" % (n, len(opened)))
    p = bed.a.ctl("--json", "audit", "reconcile", bed.a.folder + "/journal", bed.b.folder + "/journal", check=False)
    try:
        r = json.loads(p.stdout)
        print("  reconciled: %s" % {k: v for k, v in r.items() if isinstance(v, (int, str))})
    except ValueError:
        r = {}
    if p.returncode:
        faults.append("the books do not balance: %s" % json.dumps(r.get("findings", (p.stdout + p.stderr).decode()))[:3000])
    return faults


def load(bed, callers, seconds, chaos, seed):
    storm = Chaos(bed, seed, chaos)
    storm.start()
    for c in callers:
        c.stop = threading.Event()
        c.thread = threading.Thread(target=c.run, daemon=True)
        c.thread.start()
    time.sleep(seconds)
    for c in callers:
        c.stop.set()
    storm.stop()
    for c in callers:
        c.thread.join(25)
    try:
        wait("quiet", bed.quiet, 15, 0.2)
    except AssertionError:
        storm.faults.append("never quiet again: %s" % json.dumps({n: bed.workers(g) for n, g in bed.gateways.items()})[:4000])
    print("  did: %s" % dict(sorted(storm.did.items())))
    return storm.faults


def main():
    p = argparse.ArgumentParser()
    p.add_argument("-s", type=float, default=40, help="seconds of load")
    p.add_argument("-n", type=int, default=10, help="callers at once")
    p.add_argument("--seed", type=int, default=int(time.time()))
    p.add_argument("--keep", action="store_true")
    opt = p.parse_args()
    folder = tempfile.mkdtemp(prefix="sp-stress-")
    os.chmod(folder, 0o755)
    bed = Bed(folder, opt.seed)
    print("stress: %g s, %d callers, seed %d, %s" % (opt.s, opt.n, opt.seed, folder))
    faults = []
    try:
        bed.start()
        callers = [Caller(bed, i, opt.seed) for i in range(opt.n)]
        faults += load(bed, callers, opt.s * 0.5, True, opt.seed)
        faults += load(bed, callers, opt.s * 0.2, False, opt.seed + 1)
        before = bed.held()
        faults += load(bed, callers, opt.s * 0.3, False, opt.seed + 2)
        after = bed.held()
        for key in sorted(before):
            if key not in after:
                faults.append("worker %s of %s is gone though nobody killed it" % key[::-1])
                continue
            (f0, m0), (f1, m1) = before[key], after[key]
            print("  worker of %s: descriptors %d then %d, RSS %d then %d MiB" % (key[0], f0, f1, m0 >> 20, m1 >> 20))
            if f1 > f0 + 3:
                faults.append("worker of %s: %d descriptors more" % (key[0], f1 - f0))
            if m1 > m0 * 1.3 + (8 << 20):
                faults.append("worker of %s: memory grew from %d to %d MiB" % (key[0], m0 >> 20, m1 >> 20))
        by = {}
        for c in callers:
            faults += c.faults
            for k, v in c.by.items():
                by[k] = by.get(k, 0) + v
        good, done = sum(c.good for c in callers), sum(c.done for c in callers)
        print("  callers: %s" % by)
        print("  %d answers, %d of them as they should be; the service had %d requests" % (done, good, bed.origin.served))
        if good < done / 3 or good < 100:
            faults.append("%d of %d answers were good: that is no test" % (good, done))
        faults += bed.origin.faults
        faults += bed.stop()
        for n, g in bed.gateways.items():
            faults += ["%s: %s" % (n, l) for l in g.log().splitlines() if FAULT.search(l) or re.search(r"died: (?!signal-9)", l)][:20]
        faults += books(bed)
    finally:
        bed.stop()
        if not opt.keep and not faults:
            shutil.rmtree(folder, ignore_errors=True)
    if faults:
        print("\n".join("FAULT " + f for f in faults[:60]))
        print("%d faults; seed %d, kept in %s" % (len(faults), opt.seed, folder))
        return 1
    print("stress: no faults")
    return 0


if __name__ == "__main__":
    sys.exit(main())
