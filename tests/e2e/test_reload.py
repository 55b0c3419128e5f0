# SPDX-License-Identifier: Apache-2.0
"""A new configuration: taken as a whole or not at all, and nobody notices. (Cases 67, 68.)"""
import signal
import threading
import time

import pytest

from bed.domains import ECHO_HOST, RULES_A, TAX_HOST, rule
from bed.gateway import DAEMON, SLOW, http, wait


class Load:
    """Callers that go on; what failed is kept."""

    def __init__(self, pair, n=4):
        self.pair, self.stop, self.bad, self.good = pair, threading.Event(), [], 0
        self.threads = [threading.Thread(target=self._run, args=(i,)) for i in range(n)]

    def _run(self, i):
        keep = None
        while not self.stop.is_set():
            try:
                if i % 2:
                    r = self.pair.get("/load")
                else:
                    keep = keep or self.pair.legacy()
                    r = http(keep, ("GET /load HTTP/1.1\r\nHost: %s\r\n\r\n" % ECHO_HOST).encode())
                    if r[0] == 0 or b"connection: close" in r[1].lower():
                        keep.close()
                        keep = None
                        if r[0] == 0:
                            continue  # closed between two requests, as HTTP/1.1 allows
                if r[0] == 200:
                    self.good += 1
                else:
                    self.bad.append(r[:2])
            except (ConnectionResetError, BrokenPipeError) as e:
                if keep is None:
                    self.bad.append(e)
                else:  # an idle connection that the gateway closed
                    keep.close()
                    keep = None
            except Exception as e:  # noqa: BLE001
                self.bad.append(e)
        if keep:
            keep.close()

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for t in self.threads:
            t.join()


BAD = {
    "syntax": lambda c: c + "\nlisteners = ( {;\n",
    "unknown option": lambda c: c + "\nlisteneres = ( );\n",
    "a duration": lambda c: c.replace('drain_timeout = "5s"', 'drain_timeout = "5 parsecs"'),
    "an address": lambda c: c.replace("10.1.0.10:80", "10.1.0.300:80"),
    "an unknown peer": lambda c: c.replace('via = "irs"', 'via = "isr"', 1),
    "a missing file": lambda c: c.replace("gateway.crt", "gatewoy.crt"),
    "a wrong domain": lambda c: c.replace('domain = "hud.example"', 'domain = "HUD.example"', 1),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_config_is_refused(pair, origin, what):
    """Case 67: non-zero exit, file:line, the old generation stays, the refusal is in the book."""
    with open(pair.a.path) as f:
        old = f.read()
    new = BAD[what](old)
    assert new != old
    generation = pair.a.status()["generation"]
    before = len(pair.a.journal("generation"))
    try:
        with open(pair.a.path, "w") as f:
            f.write(new)
        p = pair.a.reload(check=False)
        assert p.returncode == 1, p.stdout + p.stderr
        assert b"sallyport.conf:" in p.stdout + p.stderr, p.stderr
        t = pair.a.ns.run(DAEMON, "-t", "-c", pair.a.path, check=False)
        assert t.returncode == 1 and b"sallyport.conf:" in t.stdout + t.stderr
        assert pair.get("/old-stays")[0] == 200
        assert pair.a.status()["generation"] == generation
        wait("a record", lambda: len(pair.a.journal("generation")) > before)
    finally:
        with open(pair.a.path, "w") as f:
            f.write(old)


def test_all_faults_at_once(pair):
    """Every semantic fault is told in one run."""
    with open(pair.a.path) as f:
        old = f.read()
    try:
        with open(pair.a.path, "w") as f:
            f.write(old.replace('via = "irs"', 'via = "isr"').replace("10.1.0.10:80", "10.1.0.300:80"))
        t = pair.a.ns.run(DAEMON, "-t", "-c", pair.a.path, check=False)
        text = (t.stdout + t.stderr).decode()
        assert t.returncode == 1 and text.count("isr") >= 3 and "10.1.0.300" in text, text
        assert '"irs"' in text  # did you mean
    finally:
        with open(pair.a.path, "w") as f:
            f.write(old)


def test_bad_policy_is_refused(pair, origin):
    """The old rules stay."""
    pair.a.policy(RULES_A + [rule("typo", services=["tax-svx"])])
    try:
        p = pair.a.reload(check=False)
        assert p.returncode == 1
        text = (p.stdout + p.stderr).decode()
        assert "10-test.conf:" in text and "tax-svx" in text and "tax-svc" in text
        assert pair.get("/policy-stays")[0] == 200
    finally:
        pair.a.policy(RULES_A)
        pair.a.reload()


def test_good_config_check(pair):
    assert pair.a.ns.run(DAEMON, "-t", "-c", pair.a.path).returncode == 0


@pytest.mark.limit(150)
def test_reload_under_load(make_pair, origin):
    """Case 68: reloads of config and policy on both sides; not one allowed request fails; each decision names its generation."""
    p = make_pair()
    with Load(p) as load:
        time.sleep(0.3)
        for i in range(10):
            for g in (p.a, p.b):
                # every other time a change that needs new workers
                g.write(limits={"drain_timeout": "5s", "parked": 1000 + (i // 2)})
                g.policy([rule("echo-%d" % i, services=["echo"])])
                g.reload()
            time.sleep(0.2)
        time.sleep(0.5)
    assert not load.bad, (len(load.bad), load.good, load.bad[:5], [
        r["line"] for g in (p.a, p.b) for r in g.exchanges(service="echo") if r.get("status") != "200"])
    assert load.good > 100
    p.stop()
    for g in (p.a, p.b):
        g.verify()
        assert len({r["generation"] for r in g.exchanges(service="echo")}) >= 5
    assert p.reconcile().returncode == 0


def test_sighup(pair, origin):
    before = len(pair.a.journal("generation"))
    pair.a.policy(RULES_A + [rule("hup", services=["echo"], paths=["/hup"])])
    pair.a.proc.send_signal(signal.SIGHUP)
    wait("a new generation", lambda: len(pair.a.journal("generation")) > before)
    assert pair.get("/hup")[0] == 200
    pair.a.policy(RULES_A)
    pair.a.reload()


def test_new_listener_and_service(make_pair, world, origin):
    """Listeners come and go by reload; those that stay keep their socket and lose no connection."""
    p = make_pair()
    s = p.legacy()
    assert http(s, ("GET /1 HTTP/1.1\r\nHost: %s\r\n\r\n" % ECHO_HOST).encode())[0] == 200
    old = p.a.config["listeners"]
    p.a.write(listeners=old + [{"name": "second", "address": "10.1.0.20:80", "accept": ["plaintext"], "clients": [
        {"address": "10.1.0.7/32", "principal": "spiffe://hud.example/cobol", "allow_local": True}]}])
    p.a.reload()
    with world.hud.connect(("10.1.0.20", 80), source="10.1.0.7") as t:
        assert http(t, ("GET /2 HTTP/1.1\r\nHost: %s\r\n\r\n" % ECHO_HOST).encode())[0] == 200
    s.close()
    p.a.write(listeners=old)
    p.a.reload()

    def gone():
        try:
            world.hud.connect(("10.1.0.20", 80), source="10.1.0.7", timeout=1).close()
            return False
        except OSError:
            return True
    wait("the listener gone", gone, 10)
    assert p.get("/3")[0] == 200


def test_new_certificate(make_pair, world, origin):
    """A renewed gateway certificate: new links before the old ones end, and no call fails."""
    p = make_pair()
    ups = len(p.b.journal("link-up"))
    with Load(p, 2) as load:
        fresh = p.hud.issue("gateway", "dmz1", "renewed")
        p.a.write(identity={"certificate": fresh.crt, "key": fresh.keyfile, "bundle": p.hud.ca.bundle})
        p.a.reload()
        wait("new links", lambda: len(p.b.journal("link-up")) > ups, 10)
        time.sleep(0.5)
    assert not load.bad, load.bad[:5]


def test_start_with_bad_config(world, make_pair):
    """Nothing starts, exit 1, every fault with file:line."""
    p = make_pair(start=False)
    p.a.write(domain="HUD example")
    out = world.hud.run(DAEMON, "-f", "-c", p.a.path, check=False, timeout=20 * SLOW)
    assert out.returncode == 1 and b"sallyport.conf:" in out.stderr
