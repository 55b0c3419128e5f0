# SPDX-License-Identifier: Apache-2.0
"""Links: dialled by either side through a firewall that is open one way, lost, replaced, and a peer that is gone."""
import threading
import time

import pytest

from bed.domains import ECHO_HOST, rule
from bed.gateway import SLOW, http, recv_all, wait
from bed.net import World


def only_443(world, cap, dialler):
    cap.stop()
    flows = cap.flows()
    assert flows, "nothing was seen"
    for proto, src, sport, dst, dport, syn in flows:
        assert proto == 6 and 443 in (sport, dport), (proto, src, sport, dst, dport)
        assert not syn or (src == dialler and dport == 443), (src, dst, dport)


def test_a_dials(make_pair, world, origin):
    """Open from hud to irs only."""
    cap = world.capture()
    p = make_pair(ways=[("hud", "irs")])
    assert p.get("/forward")[0] == 200
    only_443(world, cap, world.HUD)
    assert world.counter("dropped") == 0
    p.stop()


def test_b_dials(make_pair, world, origin):
    """Open from irs to hud only: B dials, and the HTTP/2 roles are swapped (ALPN h2-reverse), so that calls go A to B all the same."""
    cap = world.capture()
    p = make_pair(ways=[("irs", "hud")], dial="b")
    assert p.get("/reverse")[0] == 200
    only_443(world, cap, world.IRS)
    assert world.counter("dropped") == 0
    a, b = p.a.exchange(path="/reverse"), p.b.exchange(path="/reverse")
    assert a["exchange"] == b["exchange"] and a["direction"] == "out" and b["direction"] == "in"
    p.stop()
    assert p.reconcile().returncode == 0


def test_every_worker_gets_a_link(make_pair, world, origin):
    """Where the peer dials, it goes on until each of our workers is covered: no caller waits, wherever it lands."""
    p = make_pair(ways=[("irs", "hud")], dial="b", a={"workers": 4})
    wait("links of all workers", lambda: len({r["worker"] for r in p.a.journal("link-up")}) == 4, 15)
    for i in range(40):
        assert p.get("/w%d" % i)[0] == 200
    p.stop()


def test_both_ways(make_pair, world, origin, nginx):
    """Calls in both directions: a pair then has links of both kinds, all dialled by A."""
    p = make_pair(start=False, peer_a={"dial_reverse": [World.IRS + ":443"]})
    p.a.write(rules=[rule("a", services=["echo", "tax-svc"]),
                     rule("in", principals=["spiffe://irs.example/caller"], services=["back"])],
              services=p.a.config["services"] + [{"name": "back", "host": "back.hud.svc", "endpoints": ["10.1.0.30:9000"]}])
    peer = dict(p.a.config["peers"][0], **{"assert": ["address"]})
    p.a.write(peers=[peer])
    p.b.write(rules=[rule("b", services=["echo", "tax-svc"]), rule("out", principals=["spiffe://irs.example/caller"], services=["back"])],
              services=p.b.config["services"] + [{"name": "back", "host": "back.hud.svc", "via": "hud"}],
              listeners=p.b.config["listeners"] + [{"name": "legacy", "address": "10.2.0.10:80", "accept": ["plaintext"], "clients": [
                  {"address": "10.2.0.7/32", "principal": "spiffe://irs.example/caller", "allow_local": True}]}])
    from bed.servers import Origin
    back = Origin(world.hud, ("10.1.0.30", 9000))
    try:
        p.start()
        assert p.get("/there")[0] == 200

        def call_back():
            with world.irs.connect(("10.2.0.10", 80), source="10.2.0.7") as s:
                return http(s, b"GET /back HTTP/1.1\r\nHost: back.hud.svc\r\n\r\n")[0] == 200
        wait("a call back", call_back)
        assert back.requests[-1].get("sallyport-principal") == ["spiffe://irs.example/caller"]
        assert world.counter("dropped") == 0
    finally:
        p.stop()
        back.stop()


def test_a_lost_link_is_dialled_again(make_pair, world, origin):
    """B's worker dies: its links are down, A dials new ones, calls go on."""
    p = make_pair()
    ups = len(p.a.journal("link-up"))
    p.b.kill("worker")
    wait("link-down", lambda: p.a.journal("link-down"))
    wait("new links", lambda: len(p.a.journal("link-up")) > ups, 15)
    wait("calls again", lambda: p.get("/again")[0] == 200, 15)
    p.stop()


def test_peer_gone(make_pair, world, origin):
    """Case 72's neighbour: no peer, 503 with Retry-After at once, and no way round it."""
    p = make_pair()
    p.b.stop()
    wait("link-down", lambda: p.a.journal("link-down"))
    began = time.monotonic()
    status, head, _ = p.get("/gone")
    assert status == 503 and b"retry-after" in head.lower()
    assert time.monotonic() - began < 4 * SLOW
    assert not [r for r in origin.requests if "gone" in r.line]
    p.b.start()
    wait("the peer again", lambda: p.get("/back")[0] == 200, 20)


@pytest.mark.limit(90)
def test_black_hole(make_pair, world, origin):
    """Case 72: everything between the gateways is lost without a word: noticed within 10 s, then 503; back when it is."""
    p = make_pair()
    assert p.get("/before")[0] == 200
    try:
        world.blackhole()
        began = time.monotonic()
        wait("link-down", lambda: p.a.journal("link-down"), 12)
        assert time.monotonic() - began < 11 * SLOW
        assert p.get("/inside")[0] in (503, 504)
    finally:
        world.open(("hud", "irs"))
    wait("back again", lambda: p.get("/after")[0] == 200, 40)


def test_make_before_break(make_pair, world, origin):
    """A link's age ends: a new one is there before the old one drains; a slow answer and a stream of calls see nothing of it."""
    p = make_pair(a={"limits": {"link_age": "10s", "drain_timeout": "20s"}}, peer_a={"links": 1})

    def slow(c, r):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 140\r\n\r\n")
        for _ in range(14):
            c.sendall(b"0123456789")
            time.sleep(1)
    origin.answers["/aging"] = slow
    bad, stop = [], threading.Event()

    def calls():
        while not stop.is_set():
            try:
                r = p.get("/steady")
                if r[0] != 200:
                    bad.append(r)
            except Exception as e:  # noqa: BLE001
                bad.append(e)
            time.sleep(0.05)
    t = threading.Thread(target=calls)
    t.start()
    try:
        with p.legacy() as s:
            s.sendall(("GET /aging HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % ECHO_HOST).encode())
            got = recv_all(s, 30)
        assert got.endswith(b"0123456789" * 14)
    finally:
        stop.set()
        t.join()
    assert not bad, bad[:3]
    assert len(p.a.journal("link-up")) > p.a.config["workers"]


def test_two_gateways_of_the_peer(make_pair, world, origin):
    """A second address that nobody answers does not keep calls from crossing by the first."""
    p = make_pair(peer_a={"dial": ["203.0.113.99:443", World.IRS + ":443"]})
    assert p.get("/one-of-two")[0] == 200


def test_the_peer_is_somebody_else(make_pair, world, folder, origin):
    """A refuses to call through a gateway whose certificate it does not expect."""
    p = make_pair(start=False, peer_a={"gateways": ["spiffe://irs.example/gateway/other"]})
    p.b.start()
    p.a.start()
    assert p.get("/wrong")[0] == 503
    assert wait("a record", lambda: p.a.journal("refused"))
    assert not origin.requests


def test_key_exchange_and_cipher(make_pair, world, pair):
    """TLS 1.3, AEAD, and the hybrid key exchange where the library has it."""
    from bed.tls import connect
    s = connect(world.hud, (World.IRS, 443), cert=pair.hud.gateway, alpn=["h2"])
    assert s.version() == "TLSv1.3" and s.selected_alpn_protocol() == "h2"
    assert s.cipher()[0] in ("TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256")
    s.close()
