# SPDX-License-Identifier: Apache-2.0
"""Nothing but what is listed is ever called, however it is spelled; and no exchange goes in circles. (Cases 62, 64, 65.)"""
import pytest

from bed.domains import DB_HOST, ECHO_HOST, rule
from bed.gateway import curl, http, wait
from bed.net import World
from bed.tls import H2, connect

TARGETS = ["127.0.0.1", "127.0.0.1:80", "127.1", "0", "0.0.0.0:80", "localhost", "localhost:8080", "169.254.169.254", "169.254.169.254:80",
           "[::1]", "[::1]:80", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[fe80::1]", "2130706433", "0x7f000001",
           "0177.0.0.1", "017700000001", "10.2.0.30", "10.2.0.30:9000", "10.2.0.30:8080", "metadata.google.internal", "[fd00:ec2::254]",
           "127.0.0.1.nip.io", ECHO_HOST + ":81", ECHO_HOST + ":9000", DB_HOST + ":5433", ECHO_HOST + ".evil.example", "evil." + ECHO_HOST,
           ECHO_HOST + ":0080x"]


@pytest.mark.parametrize("target", TARGETS)
def test_target_that_is_not_listed(pair, origin, echo, target):
    """Cases 62 and 64: by Host, by absolute form and by CONNECT: refused, and nobody is dialled."""
    del echo.ends[:]
    for request in ("GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % target,
                    "GET http://%s/ HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, target),
                    "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target if ":" in target.rsplit("]")[-1] else target + ":80", target)):
        with pair.legacy() as s:
            status, _, _ = http(s, request.encode())
        assert status in (400, 403, 404, 421), (request, status)
    assert not origin.requests and not echo.ends


def test_ports_by_default(pair, origin):
    """A missing port means 80 on plaintext: the same service with and without it; names in any case, with a trailing dot refused or the same."""
    for host in (ECHO_HOST, ECHO_HOST + ":80", ECHO_HOST.upper()):
        assert pair.get("/port", host=host)[0] == 200, host


def test_same_host_on_tls_means_443(make_pair, world, services):
    """A service listed with port 80 is not the one that https asks for."""
    p = make_pair(start=False)
    for g in (p.a, p.b):
        g.write(services=[dict(s, host=s["host"] + ":80") if s["name"] == "echo" else s for s in g.config["services"]])
    p.start()
    assert p.get("/as-80")[0] == 200
    code, _, _ = curl(world.hud, "--cert", p.app.crt, "--key", p.app.keyfile, "--cacert", p.hud.ca.bundle, "--connect-to", "::10.1.0.10:443",
                      "https://%s/as-443" % ECHO_HOST)
    assert code in (403, 404, 421)


def test_no_transit(make_pair, world, services):
    """An exchange from a peer reaches local endpoints only: B does not pass it on to where it came from. (Case 65)"""
    p = make_pair(start=False)
    # B believes that echo lives behind hud, A that it lives behind irs.
    p.b.write(services=[{"name": "echo", "host": ECHO_HOST, "via": "hud"} if s["name"] == "echo" else s for s in p.b.config["services"]])
    p.b.start()
    p.a.start()
    wait("a link", lambda: p.a.journal("link-up"))
    status, _, _ = p.get("/round")
    assert status in (403, 404, 421, 508), status
    assert not p.a.journal(direction="in", path="/round")


def test_endpoint_that_is_ourselves(make_pair, world, services):
    """Case 65: a service of B whose endpoint is B's own plaintext listener: found out (508 or refused config), never a loop."""
    p = make_pair(start=False, b={"listeners": [
        {"name": "tunnel", "address": World.IRS + ":443", "accept": ["peers"]},
        {"name": "legacy", "address": "10.2.0.10:80", "accept": ["plaintext"], "clients": [
            {"address": "10.2.0.0/24", "principal": "spiffe://irs.example/self", "allow_local": True},
            {"address": "203.0.113.20/32", "principal": "spiffe://irs.example/self", "allow_local": True}]}]},
        rules_b=[rule("echo-for-hud", services=["echo"]), rule("self", principals=["spiffe://irs.example/self"], services=["echo"])])
    p.b.write(services=[{"name": "echo", "host": ECHO_HOST, "endpoints": ["10.2.0.10:80"]} if s["name"] == "echo" else s
                        for s in p.b.config["services"]])
    try:
        p.b.start()
    except AssertionError:
        assert "10.2.0.10:80" in p.b.log()
        return
    p.a.start()
    wait("a link", lambda: p.a.journal("link-up"))
    status, _, _ = p.get("/loop")
    assert status == 508, status


def test_connect_over_h2(pair, world, origin):
    h = H2(connect(world.hud, (World.HUD, 443), cert=pair.app, alpn=["h2"]))
    for target in TARGETS:
        r = h.result(h.request([(":method", "CONNECT"), (":authority", target if ":" in target.rsplit("]")[-1] else target + ":80")]))
        assert r["status"] != 200, target
        if h.closed:
            h = H2(connect(world.hud, (World.HUD, 443), cert=pair.app, alpn=["h2"]))
    h.close()
    assert not origin.requests
