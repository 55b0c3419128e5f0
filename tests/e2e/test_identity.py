# SPDX-License-Identifier: Apache-2.0
"""Who may speak at all: handshakes and certificates of every wrong kind, at the tunnel and inside; what our own dialler meets is in
test_two_domains.py. (Cases 41-52, 57-61, 89.)"""
import os
import re
import select
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

from bed.domains import APP, ECHO_HOST
from bed.gateway import SLOW, curl, http, wait
from bed.net import World
from bed.pki import CA
from bed.tls import H2, connect, context, refused
from bed.tls13 import (CLIENT_HELLO, DATA, EARLY_DATA, HANDSHAKE, KEY_UPDATE, PSK, PSK_MODES, Alert, Closed, Keys, Tls13, message, vec)
from bed.wrong import table, too_long

INSIDE = ("10.1.0.10", 443)
TUNNEL_A = (World.HUD, 443)
TUNNEL_B = (World.IRS, 443)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
ASK = b"GET /identity HTTP/1.1\r\nHost: " + ECHO_HOST.encode() + b"\r\nConnection: close\r\n\r\n"


def refusals(g):
    """Handshakes that were refused: an ordinary one is "refused", one that should never happen an "alert"."""
    return [r for r in g.journal() if r["msgid"] in ("refused", "alert")]


def reason_of(g, since):
    """That there are more of them than "since", each with its reason."""
    new = wait("a record of the refusal", lambda: len(refusals(g)) > since and refusals(g))
    return all(r["reason"] for r in new)


def served(g):
    """How many handshakes were refused, and how far its log goes."""
    return len(refusals(g)), len(g.log())


def told(g, since, reason, alert=None, name=None):
    """The one refusal since then, in the journal and in the log, with this reason."""
    wait("a record of %s" % (name or reason), lambda: len(refusals(g)) > since[0])
    r = refusals(g)[-1]
    assert r["reason"] == reason, (name, r["line"])
    if alert is not None:
        assert (r["msgid"] == "alert") == alert, (name, r["line"])
    wait("a line of %s" % (name or reason), lambda: "reason=%s " % reason in g.log()[since[1]:])
    return r


WRONG = table("hud.example", "app", "irs.example")


@pytest.mark.parametrize("name", WRONG)
def test_wrong_certificate_inside(pair, world, origin, name):
    """Cases 43-49, 52: signed by the right CA, and still nobody; each with its reason."""
    args, reason, alert = WRONG[name]
    since = served(pair.a)
    cert = pair.hud.ca.issue("wrong", **args)
    assert refused(world.hud, INSIDE, ask=ASK, name=ECHO_HOST, cert=cert), name
    assert not origin.requests
    told(pair.a, since, reason, alert, name)


WRONG_GATEWAY = table("hud.example", "gateway/dmz1", "irs.example")


@pytest.mark.parametrize("name", WRONG_GATEWAY)
def test_wrong_certificate_at_the_tunnel(pair, world, origin, name):
    """Cases 43-49, 52: a rogue that dials B as if it were gateway A."""
    args, reason, alert = WRONG_GATEWAY[name]
    since = served(pair.b)
    cert = pair.hud.ca.issue("wrong-gateway", **args)
    assert refused(world.hud, TUNNEL_B, ask=PREFACE, cert=cert, alpn=["h2"]), name
    told(pair.b, since, reason, alert, name)


def test_right_certificate_of_the_same_maker(pair, world, origin):
    """What the table above changes one thing of is accepted, so that it shows something."""
    cert = pair.hud.ca.issue("app")
    with connect(world.hud, INSIDE, name=ECHO_HOST, ca=pair.hud.ca.bundle, cert=cert) as s:
        assert http(s, ASK)[0] == 200
    assert pair.a.exchange(path="/identity")["principal"] == APP


def test_wrong_clock(pair, world):
    """Case 52: an alert that says between which times the certificate is valid, and what time it is here."""
    for seconds in ((-7200, -3600), (3600, 7200)):
        for g, to, alpn, path in ((pair.a, INSIDE, None, "app"), (pair.b, TUNNEL_B, ["h2"], "gateway/dmz1")):
            since = served(g)
            cert = pair.hud.ca.issue("late", uris=["spiffe://hud.example/" + path], seconds=seconds)
            assert refused(world.hud, to, ask=ASK, name=ECHO_HOST, cert=cert, alpn=alpn)
            r = told(g, since, "expired" if seconds[0] < 0 else "not-yet-valid", True)
            times = re.findall(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", r["detail"])
            assert times[:2] == [t.strftime("%Y-%m-%dT%H:%M:%SZ") for t in (cert.cert.not_valid_before, cert.cert.not_valid_after)]
            assert len(times) == 3 and "clock" in r["detail"] and "clock" in g.log()[since[1]:], r["line"]


def raw(world, to, cert=None, **kw):
    """TLS by our own hand."""
    alpn = kw.pop("alpn", ["h2"] if to != INSIDE else ["http/1.1"])
    return Tls13(world.hud.connect(to, timeout=5 * SLOW), cert=cert, alpn=alpn, sni=ECHO_HOST, **kw)


def dial(t):
    """The alert that ends its handshake or what comes right after it; None: closed without one."""
    try:
        t.handshake()
    except Alert as a:
        return a.code
    except Closed:
        return None
    return t.until_end(5 * SLOW)


def everywhere(pair):
    return ((pair.a, INSIDE, pair.app), (pair.a, TUNNEL_A, pair.app), (pair.b, TUNNEL_B, pair.hud.gateway))


def test_right_certificate_by_hand(pair, world, origin):
    """What the tests below change one thing of is accepted."""
    for _, to, cert in everywhere(pair):
        t = raw(world, to, cert).handshake()
        if to == INSIDE:
            t.send(DATA, ASK)
        else:
            t.send(DATA, PREFACE)
        kind, data = t.recv()
        assert kind == DATA and (data.startswith(b"HTTP/1.1 200") if to == INSIDE else data[3] == 4), data
        t.sock.close()


def test_no_certificate(pair, world, origin):
    """Case 42: on a tunnel and on a workload listener; certificate_required, and a record."""
    for g, to, _ in everywhere(pair):
        since = served(g)
        assert dial(raw(world, to)) == 116
        told(g, since, "no-certificate")
        since = served(g)
        assert refused(world.hud, to, ask=ASK, name=ECHO_HOST, alpn=["h2"])
        told(g, since, "no-certificate")
    assert not origin.requests


def test_old_tls(pair, world):
    """Case 41: 1.3 or nothing, on every TLS listener."""
    for g, to, _ in everywhere(pair):
        for version in ("-tls1_2", "-tls1_1"):
            since = served(g)
            with world.hud.enter():
                p = subprocess.run(["openssl", "s_client", "-connect", "%s:%d" % to, version, "-cipher", "ALL:@SECLEVEL=0"],
                                   input=b"", capture_output=True, timeout=20 * SLOW)
            assert b"Cipher is (NONE)" in p.stdout and b"alert protocol version" in p.stderr, p.stdout[-500:]
            told(g, since, "tls-version")


def test_versions_by_hand(pair, world):
    """Case 41: hellos of each old version, with and without the extension of 1.3; a draft's number; nothing."""
    for g, to, cert in everywhere(pair):
        for versions, legacy in (([], 0x303), ([], 0x302), ([], 0x300), ([0x303, 0x302], 0x303), ([0x301], 0x303), ([0x7f1c], 0x303), ([0x305], 0x303)):
            since = served(g)
            t = raw(world, to, cert)
            t.versions, t.legacy = versions, legacy
            assert dial(t) in (70, 40), (versions, legacy)
            told(g, since, "tls-version")


def test_compression(pair, world):
    """Case 41: RFC 8446 4.1.2: any compression method but "none" is illegal."""
    for g, to, cert in everywhere(pair):
        for methods in (b"\1\0", b"\0\1", b"\1", b"\0\0\1"):
            since = served(g)
            t = raw(world, to, cert)
            t.compression = methods
            assert dial(t) in (47, 50), methods
            r = told(g, since, "protocol")
            assert "compression" in r["detail"], r["line"]


def test_renegotiation(pair, world, origin):
    """Case 41: another ClientHello after the handshake ends the connection, and so does a HelloRequest."""
    for g, to, cert in everywhere(pair):
        for again in ("hello", "request"):
            since = served(g)
            t = raw(world, to, cert).handshake()
            t.send(HANDSHAKE, message(CLIENT_HELLO, t.client_hello()) if again == "hello" else message(0, b""))
            assert t.until_end(5 * SLOW) == 10
            assert "message" in told(g, since, "protocol")["detail"]
    assert not origin.requests


def test_no_tickets(pair, world, origin):
    """Case 51: no session ticket is given, so nothing can be resumed."""
    ctx = context(ca=pair.hud.ca.bundle, cert=pair.app)
    with ctx.wrap_socket(world.hud.connect(INSIDE), server_hostname=ECHO_HOST) as s:
        assert http(s, ASK)[0] == 200
        session = s.session
        assert session is None or not session.has_ticket
    with ctx.wrap_socket(world.hud.connect(INSIDE), server_hostname=ECHO_HOST, session=session) as s:
        assert not s.session_reused
    # By hand, since a library may swallow one: nothing but the answer comes.
    t = raw(world, INSIDE, pair.app).handshake()
    t.send(DATA, ASK)
    assert t.recv()[0] == DATA
    t.sock.close()


def test_a_ticket_of_ones_own(pair, world, origin):
    """Case 51: a PSK with every mode, and 0-RTT data behind it: a full handshake in which the client is asked for its certificate, and
    what came early is never read."""
    for g, to, cert in everywhere(pair):
        for modes in (b"\1", b"\0", b"\1\0"):
            for early in (False, True):
                t = raw(world, to, cert)
                t.extra = {PSK_MODES: vec(1, modes),
                           PSK: vec(2, vec(2, b"ticket" * 20) + b"\0\0\1\0") + vec(2, vec(1, bytes(32)))}
                if early:
                    t.extra[EARLY_DATA] = b""
                    t.early = Keys(bytes(32)).seal(DATA, ASK.replace(b"/identity", b"/early"))
                try:
                    t.handshake()
                except (Alert, Closed):
                    continue
                assert PSK not in t.server_extensions and EARLY_DATA not in t.encrypted_extensions
                if to == INSIDE:
                    t.send(DATA, ASK)
                    assert t.recv()[1].startswith(b"HTTP/1.1 200")
                t.sock.close()
        time.sleep(0.2)  # what these left in the book
        # And without a certificate, the ticket is no help.
        since = served(g)
        t = raw(world, to)
        t.extra = {PSK_MODES: vec(1, b"\1"), PSK: vec(2, vec(2, b"ticket") + bytes(4)) + vec(2, vec(1, bytes(32)))}
        assert dial(t) == 116
        told(g, since, "no-certificate")
    assert all(" /early " not in r.line for r in origin.requests)


def test_resumption_by_openssl(pair, world, folder):
    """Case 51: s_client gets no session to come back with."""
    path = folder() + "/session"
    argv = ["openssl", "s_client", "-connect", "%s:%d" % INSIDE, "-servername", ECHO_HOST, "-cert", pair.app.crt, "-key", pair.app.keyfile,
            "-cert_chain", pair.app.crt, "-ign_eof"]
    with world.hud.enter():
        p = subprocess.run(argv + ["-sess_out", path], input=ASK, capture_output=True, timeout=20 * SLOW)
        assert b"TLSv1.3" in p.stdout and b"200 OK" in p.stdout and b"TLS session ticket:" not in p.stdout
        p = subprocess.run(argv + (["-sess_in", path] if os.path.exists(path) else []) + ["-early_data", pair.app.crt],
                           input=ASK, capture_output=True, timeout=20 * SLOW)
    assert b"New, TLSv1.3" in p.stdout and b"Reused" not in p.stdout and b"200 OK" in p.stdout


def flood(t, n=20000):
    """KeyUpdates until it is closed: how many, and the alert."""
    t.sock.settimeout(10 * SLOW)
    try:
        for i in range(n):
            t.key_update()
    except (BrokenPipeError, ConnectionResetError):
        pass
    return i


def test_key_update_flood(pair, world, origin):
    """Case 58: closed, with an alert that says so; the others do not notice."""
    for g, to, cert in everywhere(pair):
        since = (len(g.journal("alert")), len(g.log()))
        t = raw(world, to, cert).handshake()
        if to != INSIDE:
            t.send(DATA, PREFACE)
        assert flood(t) < 19999
        wait("an alert", lambda: [r for r in g.journal("alert")[since[0]:] if r["reason"] == "key-update-flood"])
        wait("a line of it", lambda: "key-update-flood" in g.log()[since[1]:])
        assert pair.get("/calm")[0] == 200


def test_key_updates_in_reason(pair, world, origin):
    """Case 58's neighbour: a client that changes its keys now and then, and asks for ours, is served."""
    t = raw(world, INSIDE, pair.app).handshake()
    for i in range(10):
        t.key_update(answer=i % 2 == 1)
        t.send(DATA, ASK.replace(b"close", b"keep-alive"))
        kind, data = t.recv()
        if kind == HANDSHAKE:
            assert data[0] == KEY_UPDATE
            t.read_keys = t.read_keys.next()
            kind, data = t.recv()
        assert kind == DATA and data.startswith(b"HTTP/1.1 200")
        while not data.endswith(b"\r\n\r\n") and b"\r\n\r\n" not in data:
            data += t.recv()[1]
        want = int(re.search(rb"(?i)content-length: *(\d+)", data).group(1))
        body = data.split(b"\r\n\r\n", 1)[1]
        while len(body) < want:
            body += t.recv()[1]
    t.sock.close()


def test_inside_certificate_is_verifiable(pair, world):
    """An ordinary client verifies the name that it asked for."""
    code, _, err = curl(world.hud, "--cert", pair.app.crt, "--key", pair.app.keyfile, "--cacert", pair.hud.ca.bundle,
                        "--connect-to", "::10.1.0.10:443", "https://%s/verify" % ECHO_HOST)
    assert code == 200, err


def test_sni_and_authority_differ(pair, world, origin):
    """Case 50: 421 where the name of the connection is not the name of the request."""
    with connect(world.hud, INSIDE, name="tax-svc.irs.svc.cluster.local", cert=pair.app) as s:
        assert http(s, ASK)[0] == 421
    assert not origin.requests


def test_sni_and_authority_differ_h2(pair, world, origin):
    """Case 50 for HTTP/2: request by request, and the connection lives on for its own name."""
    h = H2(connect(world.hud, INSIDE, name="tax-svc.irs.svc.cluster.local", cert=pair.app, alpn=["h2"]))
    assert h.get(ECHO_HOST, "/other-name")["status"] == 421
    assert not origin.requests
    assert h.get("tax-svc.irs.svc.cluster.local", "/v1/x")["status"] == 200
    h.close()


def test_sni_is_no_matter_for_connect(pair, world, echo):
    """Case 50: CONNECT names its own target, whatever the connection is called."""
    h = H2(connect(world.hud, TUNNEL_A, name="hud.example", cert=pair.app, alpn=["h2"]))
    sid = h.request([(":method", "CONNECT"), (":authority", "db.irs.svc.cluster.local:5432")], end=False)
    h.pump(lambda: h.streams[sid]["status"] or h.streams[sid]["ended"])
    assert h.streams[sid]["status"] == 200
    h.close()


def test_another_ca(pair, world, folder, origin):
    """A CA of the same name that nobody trusts."""
    rogue = CA(folder(), "hud.example")
    for g, ns, to, cert in ((pair.a, world.hud, INSIDE, rogue.issue("app")),
                            (pair.b, world.hud, TUNNEL_B, rogue.issue("gateway/dmz1")),
                            (pair.a, world.hud, TUNNEL_A, CA(folder(), "irs.example").issue("gateway/dmz1"))):
        since = len(refusals(g))
        assert refused(ns, to, ask=ASK, name=ECHO_HOST, cert=cert, alpn=["h2"] if to != INSIDE else None)
        assert reason_of(g, since)
    assert not origin.requests


def test_the_other_domain_signs_our_id(pair, world, origin):
    """Case 48: irs.example's CA signs an id of hud.example: refused everywhere, and an alert."""
    evil = CA.of_gwctl(pair.irs.ca.folder, "irs.example")
    for g, ns, to, uri in ((pair.a, world.hud, INSIDE, "spiffe://hud.example/app"),
                           (pair.b, world.hud, TUNNEL_B, "spiffe://hud.example/gateway/dmz1"),
                           (pair.a, world.hud, TUNNEL_A, "spiffe://hud.example/gateway/dmz1")):
        since = len(refusals(g))
        cert = evil.issue("forged", uris=[uri])
        assert refused(ns, to, ask=ASK, name=ECHO_HOST, cert=cert, alpn=["h2"] if to != INSIDE else None), uri
        wait("a record", lambda: len(refusals(g)) > since)
        assert g.journal("alert"), g.folder
    assert not origin.requests


def test_gateway_that_is_not_listed(pair, world):
    """A real gateway certificate of the peer's domain, but not one of peers.gateways."""
    other = pair.hud.issue("gateway", "dmz9", "dmz9")
    since = len(refusals(pair.b))
    assert refused(world.hud, TUNNEL_B, ask=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0", cert=other, alpn=["h2"])
    assert reason_of(pair.b, since)


def test_workload_of_the_peers_domain_at_the_tunnel(pair, world, origin):
    """Case 89: refused with an alert, at a tunnel that takes only peers and at one that takes workloads of its own domain."""
    for g, ns, to, cert in ((pair.b, world.hud, TUNNEL_B, pair.app),
                            (pair.a, world.hud, TUNNEL_A, pair.irs.issue("workload", "spy", "spy"))):
        since = len(refusals(g))
        assert refused(ns, to, ask=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0", cert=cert, alpn=["h2"])
        wait("a record", lambda: len(refusals(g)) > since)


def test_forwarded_identity_from_a_workload(pair, world, origin):
    """Case 89: Client-Cert, a slot or an id on a link that is not a gateway's: dropped or refused, never believed."""
    with open(pair.app.crt, "rb") as f:
        import base64
        der = ssl.PEM_cert_to_DER_cert(f.read().decode().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")
    cert = pair.hud.issue("workload", "mallory", "mallory")
    fields = [("client-cert", ":%s:" % base64.b64encode(der).decode()), ("sallyport-slot", "1"), ("sallyport-principal", APP),
              ("sallyport-exchange", "01890a5d-ac96-774b-bcce-b302099a8057"), ("sallyport-assurance", "mtls")]
    h = H2(connect(world.hud, TUNNEL_A, cert=cert, alpn=["h2"]))
    r = h.get(ECHO_HOST, "/forged", fields=fields)
    h.close()
    assert r["status"] in (400, 403, None)
    assert not origin.requests
    d = [x for x in pair.a.journal() if x.get("path") == "/forged"]
    assert all(x["principal"] != APP for x in d)


class FakePeer:
    """We play gateway A with its real certificate against B: what B believes of a peer."""

    def __init__(self, pair, world):
        self.h = H2(connect(world.hud, TUNNEL_B, cert=pair.hud.gateway, alpn=["h2"]))

    def ask(self, fields, path="/fake"):
        return self.h.get(ECHO_HOST, path, fields=fields)


def test_our_own_domain_from_a_peer(pair, world, origin):
    """Case 89: an id of irs.example that arrives from hud.example's gateway is refused, with an alert."""
    alerts = len(pair.b.journal("alert"))
    p = FakePeer(pair, world)
    r = p.ask([("sallyport-principal", "spiffe://irs.example/insider"), ("sallyport-assurance", "address"),
               ("sallyport-exchange", "01890a5d-ac96-774b-bcce-b302099a8057"), ("sallyport-attempt", "1")])
    assert r["status"] not in (200,) and not origin.requests
    p.h.close()
    assert len(pair.b.journal("alert")) >= alerts


def test_claims_without_form(pair, world, origin):
    """A peer's exchange without an id, without a caller, or with nonsense for them gets a definite answer."""
    p = FakePeer(pair, world)
    for fields in ([], [("sallyport-exchange", "x")], [("sallyport-slot", "999999")], [("client-cert", "nonsense")],
                   [("sallyport-principal", "spiffe://hud.example/app"), ("sallyport-assurance", "mtls")],
                   [("client-cert", ":AAAA:"), ("sallyport-exchange", "01890a5d-ac96-774b-bcce-b302099a8057")]):
        r = p.ask(fields)
        assert r["status"] != 200, fields
        if p.h.closed:
            p = FakePeer(pair, world)
    assert not origin.requests
    p.h.close()
    assert pair.get("/still")[0] == 200


def test_chain_that_is_too_long(pair, world, origin):
    """Case 59: by number and by octets, refused before it is verified, on every TLS listener."""
    for g, to, cert in everywhere(pair):
        ca, path = pair.hud.ca, "app" if cert is pair.app else "gateway/dmz1"
        for name, args in too_long(ca).items():
            since = served(g)
            long = ca.issue("long", uris=["spiffe://hud.example/" + path], **args)
            assert refused(world.hud, to, ask=ASK, name=ECHO_HOST, cert=long, alpn=["h2"] if to != INSIDE else None), name
            told(g, since, "chain-too-long", False, name)
    assert not origin.requests


def test_longest_chain(pair, world, origin):
    """Case 59's neighbour: eight certificates are taken."""
    from cryptography.hazmat.primitives.serialization import Encoding
    cert = pair.hud.ca.issue("eight", uris=[APP], chain=pair.hud.ca.cert.public_bytes(Encoding.PEM) * 7)
    with connect(world.hud, INSIDE, name=ECHO_HOST, cert=cert) as s:
        assert http(s, ASK)[0] == 200


BAD_BUNDLES = {
    "emptied": lambda pem, leaf: b"",
    "a comment": lambda pem, leaf: b"# retired\n",
    "duplicate keys": lambda pem, leaf: pem + pem,
    "cut off": lambda pem, leaf: pem[:len(pem) // 2],
    "one whole, one cut off": lambda pem, leaf: pem + pem[:len(pem) // 2],
    "no CA": lambda pem, leaf: leaf,
    "a leaf beside": lambda pem, leaf: pem + leaf,
    "gone": None,
}


@pytest.mark.parametrize("what", BAD_BUNDLES)
@pytest.mark.parametrize("whose", ["ours", "the peer's"])
def test_bad_bundle_on_reload(pair, world, origin, whose, what):
    """Case 57: refused with the file's name, the old generation stays and works, and a record and a log line say so."""
    path = (pair.hud if whose == "ours" else pair.irs).ca.bundle
    with open(path, "rb") as f:
        pem = f.read()
    with open(pair.app.crt, "rb") as f:
        leaf = f.read()
    leaf = leaf[:leaf.index(b"-----END CERTIFICATE-----") + 26]
    generation, records, at = pair.a.status()["generation"], len(pair.a.journal("generation")), len(pair.a.log())
    try:
        if BAD_BUNDLES[what] is None:
            os.rename(path, path + ".away")
        else:
            with open(path, "wb") as f:
                f.write(BAD_BUNDLES[what](pem, leaf))
        p = pair.a.reload(check=False)
        assert p.returncode == 1 and os.path.basename(path).encode() in p.stdout + p.stderr, p.stdout + p.stderr
        assert pair.a.status()["generation"] == generation
        assert pair.get("/old-bundle")[0] == 200
        with connect(world.hud, INSIDE, name=ECHO_HOST, cert=pair.app) as s:
            assert http(s, ASK)[0] == 200
        r = wait("a record", lambda: pair.a.journal("generation")[records:])[-1]
        assert r["reason"] != "loaded", r["line"]
        assert os.path.basename(path) in pair.a.log()[at:]
    finally:
        if BAD_BUNDLES[what] is None:
            os.rename(path + ".away", path)
        else:
            with open(path, "wb") as f:
                f.write(pem)
    pair.a.reload()


def test_bad_bundle_at_start(make_pair):
    """Case 57: without a good bundle there is no start."""
    p = make_pair(start=False)
    for path in (p.hud.ca.bundle, p.irs.ca.bundle):
        with open(path, "rb") as f:
            pem = f.read()
        for text in (b"", pem + pem):
            with open(path, "wb") as f:
                f.write(text)
            p.a.start(wait_ready=False)
            assert p.a.proc.wait(10 * SLOW) != 0
            assert os.path.basename(path) in p.a.log().splitlines()[-1] + p.a.log().splitlines()[-2]
            p.a.stop(check=False)
        with open(path, "wb") as f:
            f.write(pem)


def steal(pid, fd):
    """A descriptor of another process, as one of ours (pidfd_getfd)."""
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    got = libc.syscall(438, pidfd, fd, 0)
    os.close(pidfd)
    if got < 0:
        e = ctypes.get_errno()
        if e in (1, 38):
            pytest.skip("pidfd_getfd: " + os.strerror(e))
        raise OSError(e, os.strerror(e))
    return socket.socket(fileno=got)


def channels(g, worker, keys):
    """The worker's ends of what it shares with keys, by the kernel's table of Unix sockets."""
    def inodes(pid):
        out = {}
        for f in os.listdir("/proc/%d/fd" % pid):
            m = re.match(r"socket:\[(\d+)\]", os.readlink("/proc/%d/fd/%s" % (pid, f)))
            if m:
                out[m.group(1)] = int(f)
        return out
    theirs, mine, found = inodes(keys), inodes(worker), []
    for line in g.ns.run("ss", "-xpnH").stdout.decode().splitlines():
        numbers = re.findall(r"(?:\*|\S+) (\d+) ", line.split("users:")[0] + " ")
        if len(numbers) >= 2 and numbers[-2] in mine and numbers[-1] in theirs:
            found.append(mine[numbers[-2]])
    return found


NO_HANDSHAKE = {
    "a digest": bytes(32),
    "a forged statement": b"I, gateway dmz1 of hud.example, owe you a million",
    "nearly a handshake": b" " * 63 + b"\0" + b"TLS 1.3, server CertificateVerify\0" + bytes(32),
    "a handshake with more behind it": b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + bytes(33),
    "TLS 1.2's": b"ServerKeyExchange" + bytes(64),
}


@pytest.mark.parametrize("what", NO_HANDSHAKE)
def test_worker_asks_for_another_signature(pair, origin, what):
    """Case 61: on a real worker's own channel: refused, the worker is killed and replaced, and there is an alert. Nothing was signed."""
    g = pair.a
    worker, keys = g.role("worker")[0], g.role("keys")[0]
    ends = channels(g, worker, keys)
    assert len(ends) == 1, ends
    s = steal(worker, ends[0])
    alerts, at = len(g.journal("alert")), len(g.log())
    tbs = NO_HANDSHAKE[what]
    data = struct.pack("<QHHI", 1, 0, 0x403, len(tbs)) + bytes(16) + tbs
    s.sendall(struct.pack("<HHI", 160, 0, len(data)) + data)
    s.close()
    r = wait("an alert", lambda: g.journal("alert")[alerts:])[-1]
    assert r["reason"] == "keys-abuse", r["line"]
    wait("a line of it", lambda: "keys-abuse" in g.log()[at:])
    wait("the worker's end", lambda: not os.path.exists("/proc/%d" % worker))
    wait("another worker", lambda: [x for x in g.role("worker") if x != worker and len(g.role("worker")) == 2], 5)
    assert g.role("keys") == [keys], "keys itself goes on"
    wait("calls", lambda: pair.get("/after-abuse")[0] == 200)


def test_expired_link_certificate_is_refused(make_pair, world, origin):
    """Case 52 at the tunnel: A's own certificate has run out; no link, 503, and B's book says why."""
    p = make_pair(start=False)
    old = p.hud.ca.issue("gone", uris=[p.hud.gateway_id], seconds=(-7200, -3600))
    p.a.write(identity={"certificate": old.crt, "key": old.keyfile, "bundle": p.hud.ca.bundle})
    p.b.start()
    try:
        p.a.start()
    except AssertionError:
        return  # refused at start is a definite answer, too
    status, _, _ = p.get("/expired")
    assert status == 503
    assert wait("a record", lambda: p.b.journal("alert"))[-1]["reason"] == "expired"
    assert not origin.requests


def test_stalled_handshake(pair, world):
    """Case 17's neighbour: a connection that says nothing is closed at the handshake's deadline."""
    s = world.hud.connect(INSIDE)
    began = time.monotonic()
    s.settimeout(12 * SLOW)
    try:
        assert s.recv(1) == b""
    except ConnectionResetError:
        pass
    assert 3 < time.monotonic() - began < 9 * SLOW


def test_garbage_instead_of_tls(pair, world):
    for to in (INSIDE, TUNNEL_A):
        s = world.hud.connect(to)
        s.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(range(256)) * 4)
        s.settimeout(10 * SLOW)
        try:
            while s.recv(1000):
                pass
        except ConnectionResetError:
            pass
    assert pair.get("/fine")[0] == 200


def test_keys_killed_while_dialling(make_pair, origin):
    """Case 60, the dialler's side: A's keys role dies and B's links with it; when both are back, links are, too."""
    p = make_pair()
    ups = len(p.a.journal("link-up"))
    p.a.kill("keys")
    for w in p.b.role("worker"):
        os.kill(w, 9)
    wait("links again", lambda: len(p.a.journal("link-up")) >= ups + 2, 15)
    wait("calls", lambda: p.get("/again")[0] == 200, 10)


def test_rogue_beside_the_real_one(make_pair, world, origin):
    """A rogue at one of the peer's two addresses: what crosses goes by the other one, always."""
    sock = world.irs.listen(("10.2.0.20", 443))
    sock.setblocking(False)
    p = make_pair(start=False, peer_a={"dial": [World.IRS + ":443", "10.2.0.20:443"]})
    evil = p.irs.ca.issue("evil", uris=["spiffe://irs.example/gateway/other"])
    seen = []
    stop = threading.Event()

    def serve():
        while not stop.is_set():
            if not select.select([sock], [], [], 0.1)[0]:
                continue
            c, _ = sock.accept()
            c.settimeout(5)
            try:
                t = Tls13(c, cert=evil, alpn=["h2"], server=True).handshake()
                while True:
                    seen.append(t.recv())
            except (Alert, Closed, OSError):
                pass
            c.close()
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        world.hud.run("ip", "route", "replace", "10.2.0.20/32", "via", "192.0.2.1")
        world.fw.run("ip", "route", "replace", "10.2.0.20/32", "via", World.IRS)
        p.start()
        for i in range(20):
            assert p.get("/by-the-other-%d" % i)[0] == 200
        wait("the rogue to be met", lambda: [r for r in p.a.journal("refused") if r["reason"] == "gateway-not-listed"])
        assert all(r["gateway"] == p.irs.gateway_id for r in p.a.journal("link-up"))
        # All that it ever saw of us is the beginning of HTTP/2 at most, never a request.
        assert not any(kind == DATA and b"by-the-other" in data for kind, data in seen)
        assert len(origin.requests) >= 20
    finally:
        stop.set()
        thread.join()
        sock.close()
