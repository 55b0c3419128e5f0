# SPDX-License-Identifier: Apache-2.0
"""Two domains, never one: what our own dialler does when a rogue answers in the peer's place. Gateway A dials; B is not there, and whatever
a test puts in its place listens at its address. What listeners refuse is in test_identity.py. (Cases 41-49, 51, 52, 58, 59, 89.)"""
import os
import select
import struct

import pytest

from bed.domains import Pair
from bed.gateway import SLOW, wait
from bed.net import World
from bed.pki import CA
from bed.tls13 import (CERTIFICATE, EARLY_DATA, HANDSHAKE, PSK, SHARES, TICKET, VERSIONS, Alert, Closed, Tls13, message, vec)
from bed.wrong import table, too_long

PREFACE = b"PRI * HTTP/2.0\r\n\r\n"
REAL = "gateway/dmz1"


class Rogue:
    """Takes the place of gateway B, one connection at a time: the others wait in the backlog, and those that gave up there are passed over."""

    def __init__(self, world, gateway):
        self.sock, self.g = world.irs.listen((World.IRS, 443)), gateway
        self.sock.settimeout(20 * SLOW)

    def connection(self):
        while True:
            c, _ = self.sock.accept()
            c.settimeout(5 * SLOW)
            p = select.poll()
            p.register(c, select.POLLRDHUP)
            if not p.poll(0):
                return c
            c.close()

    def said(self):
        """What A recorded of its links, but for those that waited for us in vain."""
        return [r for r in self.g.journal() if r["msgid"] in ("refused", "alert", "link-down") and r["reason"] not in ("timeout", "connect-failed") and r.get("peer") == "irs"]

    def serve(self, cert, **kw):
        """A server on the next connection: what it is is changed before its handshake()."""
        return Tls13(self.connection(), cert=cert, alpn=kw.pop("alpn", ["h2"]), server=True, **kw)

    def leave(self, t):
        """Close, and wait until A has noted that."""
        before = len(self.said())
        t.sock.close()
        wait("a record", lambda: len(self.said()) > before)

    def refused(self, t, reason, alert=None, name=None, after=None):
        """A must end this connection and say why. after(t): what is done once the handshake is over. Returns the record and TLS's alert."""
        before, at, code = len(self.said()), len(self.g.log()), None
        try:
            t.handshake()
            if after:
                after(t)
            code = t.until_end(5 * SLOW)
        except Alert as a:
            code = a.code
        except (Closed, BrokenPipeError, ConnectionResetError):
            pass
        finally:
            t.sock.close()
        r = wait("a record of %s" % (name or reason), lambda: self.said()[before:])[0]
        assert r["reason"] == reason, (name, r["line"])
        if alert is not None:
            assert (r["msgid"] == "alert") == alert, (name, r["line"])
        wait("a line of %s" % reason, lambda: "reason=%s " % reason in self.g.log()[at:])
        return r, code

    def close(self):
        self.sock.close()


@pytest.fixture(scope="module")
def alone(world, folder):
    """Gateway A with the configuration of a pair, and no gateway at the other end."""
    world.open(("hud", "irs"))
    p = Pair(world, folder(), start=False, a={"workers": 8})
    p.rogue = Rogue(world, p.a)
    p.a.start()
    yield p
    p.stop()
    p.rogue.close()


@pytest.fixture
def rogue(alone):
    return alone.rogue


def down(alone):
    """No link came of it, so nothing crosses."""
    assert alone.get("/rogue")[0] == 503
    assert not alone.a.journal("link-up")


def test_right_server(alone, rogue):
    """What the tests below change one thing of: A goes on to HTTP/2."""
    t = rogue.serve(alone.irs.gateway).handshake()
    assert t.hello["ext"][VERSIONS] == b"\2\3\4", "1.3 and nothing else is offered"
    assert t.recv()[1].startswith(PREFACE)
    rogue.leave(t)
    down(alone)


WRONG = table("irs.example", REAL, "hud.example", server=True)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_certificate(alone, rogue, name):
    """Cases 43-49, 52: of the right CA, with one thing wrong."""
    args, reason, alert = WRONG[name]
    cert = alone.irs.ca.issue("wrong-server", **args)
    r, code = rogue.refused(rogue.serve(cert), reason, alert, name)
    assert code in (42, 43, 44, 45, 46, 48), (name, code)  # the far end is told that its certificate is no good
    if "52" in name:
        assert "clock" in r["detail"], r["line"]


def test_no_certificate(alone, rogue):
    """Case 42: a server without one."""
    t = rogue.serve(alone.irs.gateway)
    t.chain = []
    rogue.refused(t, "protocol")


def test_another_ca(alone, rogue, folder):
    """Case 48: a CA of the same name that nobody trusts, and our own domain's CA, which may not speak for the peer's."""
    ours = CA.of_gwctl(alone.hud.ca.folder, "hud.example")
    for ca in (CA(folder(), "irs.example"), ours):
        cert = ca.issue("forged-server", uris=[alone.irs.gateway_id])
        r, code = rogue.refused(rogue.serve(cert), "untrusted", True)
        assert code == 48
    assert "another domain" in r["detail"], r["line"]
    down(alone)


def test_who_is_not_the_peer(alone, rogue):
    """Case 89: real certificates of both domains, none of them the peer's gateway. One of its gateways that nobody listed is a refusal;
    a workload of its domain, and anybody of ours, an alert."""
    for cert, alert in ((alone.irs.issue("gateway", "dmz9", "dmz9"), False), (alone.irs.issue("workload", "spy", "spy"), True),
                        (alone.hud.gateway, True), (alone.app, True)):
        rogue.refused(rogue.serve(cert), "gateway-not-listed", alert, cert.crt)
    down(alone)


def test_without_its_key(alone, rogue):
    """The peer's certificate is public: without its key it is nothing."""
    class Pretender:
        crt, keyfile = alone.irs.gateway.crt, alone.irs.issue("workload", "thief", "thief").keyfile
    r, code = rogue.refused(rogue.serve(Pretender), "protocol")
    assert "signature" in r["detail"] and code == 51


def test_long_chains(alone, rogue):
    """Case 59: by number and by octets."""
    for name, args in too_long(alone.irs.ca).items():
        cert = alone.irs.ca.issue("long-server", uris=[alone.irs.gateway_id], **args)
        rogue.refused(rogue.serve(cert), "chain-too-long", False, name)


def test_endless_certificate(alone, rogue):
    """Case 59: a Certificate message that says it has 16 MiB is refused by its length, not when they have come."""
    t = rogue.serve(alone.irs.gateway)
    sent = [0]

    def prove():
        t.sock.settimeout(5 * SLOW)
        t.send(HANDSHAKE, bytes([CERTIFICATE]) + b"\xff\xff\xff" + b"\0" + b"\xff\xff\xfb")
        for sent[0] in range(1000):
            t.send(HANDSHAKE, bytes(16000))
    t.prove = prove
    rogue.refused(t, "chain-too-long", False)
    assert sent[0] < 999


# ---- case 41 ----

def test_old_versions(alone, rogue):
    """Case 41: servers that choose an old version, with and without the extension, or none that exists."""
    for versions, legacy in (([], 0x303), ([], 0x302), ([0x303], 0x303), ([0x302], 0x303), ([0x7f1c], 0x303)):
        t = rogue.serve(alone.irs.gateway)
        t.versions, t.legacy = versions, legacy
        _, code = rogue.refused(t, "tls-version", None, str((versions, legacy)))
        assert code in (70, 47)


def test_server_that_is_too_old(alone, rogue):
    """Case 41: a real one that knows 1.2 only says so, and A tells its operator."""
    import ssl
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.maximum_version = ssl.TLSVersion.TLSv1_2
    ctx.load_cert_chain(alone.irs.gateway.crt, alone.irs.gateway.keyfile)
    before = len(rogue.said())
    c = rogue.connection()
    with pytest.raises(ssl.SSLError):
        ctx.wrap_socket(c, server_side=True)
    c.close()
    r = wait("a record", lambda: rogue.said()[before:])[0]
    assert r["reason"] == "alert" and "protocol version" in r["detail"], r["line"]


def test_compression(alone, rogue):
    """Case 41: none was offered, so none may be chosen."""
    for method in (b"\1", b"\x40"):
        t = rogue.serve(alone.irs.gateway)
        assert t.read_hello()["compression"] == b"\0"
        t.compression = method
        r, _ = rogue.refused(t, "protocol")
        assert "compression" in r["detail"], r["line"]


def test_renegotiation(alone, rogue):
    """Case 41: a HelloRequest, or another ServerHello, after the handshake."""
    for m in (message(0, b""), message(2, bytes(80)), message(1, bytes(80))):
        r, code = rogue.refused(rogue.serve(alone.irs.gateway), "protocol", None, m[0], after=lambda t, m=m: t.send(HANDSHAKE, m))
        assert code == 10, r["line"]


def test_certificate_asked_for_again(alone, rogue):
    """Post-handshake authentication (RFC 8446 4.6.2) was not offered."""
    body = vec(1, b"again") + vec(2, struct.pack("!H", 13) + vec(2, vec(2, b"\4\3")))
    _, code = rogue.refused(rogue.serve(alone.irs.gateway), "protocol", after=lambda t: t.send(HANDSHAKE, message(13, body)))
    assert code == 10


def test_nothing_in_common(alone, rogue):
    """A group that was not offered, and an extension that nobody asked for."""
    t = rogue.serve(alone.irs.gateway)
    t.extra = {SHARES: b"\0\x1e" + vec(2, bytes(56))}
    rogue.refused(t, "protocol")
    t = rogue.serve(alone.irs.gateway)
    t.extra = {PSK: b"\0\0"}
    rogue.refused(t, "protocol")


def test_another_protocol(alone, rogue):
    """ALPN: not ours, or none."""
    rogue.refused(rogue.serve(alone.irs.gateway, alpn=["http/1.1"]), "protocol")
    rogue.refused(rogue.serve(alone.irs.gateway, alpn=["h2-reverse"]), "protocol")
    rogue.refused(rogue.serve(alone.irs.gateway, alpn=[]), "alpn")


# ---- case 51 ----

def test_tickets_are_not_used(alone, rogue):
    """Case 51: whatever tickets a server gives, A comes back without one, and never with early data."""
    def tickets(t):
        for i in range(3):
            t.send(HANDSHAKE, message(TICKET, struct.pack("!II", 7200, 1) + vec(1, bytes([i])) + vec(2, b"ticket" * 10) + vec(2, struct.pack("!HH", EARLY_DATA, 4) + b"\xff" * 4)))
        assert t.recv()[1].startswith(PREFACE)
    for _ in range(6):  # some of them by the same worker
        t = rogue.serve(alone.irs.gateway).handshake()
        assert PSK not in t.hello["ext"] and EARLY_DATA not in t.hello["ext"]
        tickets(t)
        rogue.leave(t)


# ---- case 58 ----

def flood(t, kind):
    try:
        for _ in range(20000):
            if kind == "tickets":
                t.send(HANDSHAKE, message(TICKET, struct.pack("!II", 7200, 1) + vec(1, b"n") + vec(2, b"t") + vec(2, b"")))
            else:
                t.key_update(answer=kind == "asking")
    except (BrokenPipeError, ConnectionResetError):
        return
    raise AssertionError("20000 of them were taken")


@pytest.mark.parametrize("kind", ["telling", "asking", "tickets"])
def test_flood(alone, rogue, kind):
    """Case 58: a server that changes its keys without end, or asks for ours, or hands out tickets."""
    rogue.refused(rogue.serve(alone.irs.gateway), "key-update-flood", True, after=lambda t: flood(t, kind))
    assert alone.a.role("worker") and all(os.path.exists("/proc/%d" % p) for p in alone.a.role("worker"))


# ---- case 52 ----

def test_wrong_clock_is_told_once_it_matters(alone, rogue):
    """Case 52: gwctl says why there is no link, and names the clock."""
    cert = alone.irs.ca.issue("tomorrow", uris=[alone.irs.gateway_id], seconds=(3600, 7200))
    rogue.refused(rogue.serve(cert), "not-yet-valid", True)
    out = wait("gwctl peers", lambda: [l for l in alone.a.ctl("peers").stdout.decode().splitlines() if "not-yet-valid" in l], 3)
    assert "clock" in out[0], out


# ---- everything else that is not TLS ----

def test_garbage(alone, rogue):
    """No TLS at all, a TLS record without end, silence."""
    for data in (b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(64), b"\x16\x03\x03\xff\xff" + bytes(70000), b"SSH-2.0-x\r\n"):
        before = len(rogue.said())
        c = rogue.connection()
        try:
            c.sendall(data)
            while c.recv(4096):
                pass
        except OSError:
            pass
        c.close()
        wait("a record", lambda: rogue.said()[before:])
