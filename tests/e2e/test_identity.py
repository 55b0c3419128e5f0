# SPDX-License-Identifier: Apache-2.0
"""Who may speak at all: certificates of every wrong kind, at the tunnel and inside. (Cases 41-49, 50-52, 59, 89.)"""
import ssl
import subprocess
import time

import pytest

from bed.domains import APP, ECHO_HOST
from bed.gateway import SLOW, curl, http, wait
from bed.net import World
from bed.pki import CA, CLIENT, SERVER, san_uri
from bed.tls import H2, connect, context, refused

INSIDE = ("10.1.0.10", 443)
TUNNEL_A = (World.HUD, 443)
TUNNEL_B = (World.IRS, 443)
ASK = b"GET /identity HTTP/1.1\r\nHost: " + ECHO_HOST.encode() + b"\r\nConnection: close\r\n\r\n"


def refusals(g):
    """Handshakes that were refused: an ordinary one is "refused", one that should never happen an "alert"."""
    return g.journal("refused") + g.journal("alert")


def reason_of(g, since):
    """That there are more of them than "since", each with its reason."""
    new = wait("a record of the refusal", lambda: len(refusals(g)) > since and refusals(g))
    return all(r["reason"] for r in new)


WRONG = {
    "case 43: server only": dict(eku=(SERVER,)),
    "case 43: code signing": dict(eku=(__import__("cryptography").x509.oid.ExtendedKeyUsageOID.CODE_SIGNING,)),
    "case 44: two URIs": dict(uris=["spiffe://hud.example/app", "spiffe://hud.example/admin"]),
    "case 44: the same URI twice": dict(uris=["spiffe://hud.example/app", "spiffe://hud.example/app"]),
    "case 45: NUL": dict(san=san_uri(b"spiffe://hud.example/app\0.evil")),
    "case 45: an octet above 127": dict(san=san_uri("spiffe://hud.example/äpp".encode())),
    "case 45: no URI at all": dict(san=san_uri(b"")),
    "case 46: upper case": dict(san=san_uri(b"spiffe://HUD.example/app")),
    "case 46: upper-case scheme": dict(san=san_uri(b"SPIFFE://hud.example/app")),
    "case 46: a port": dict(san=san_uri(b"spiffe://hud.example:99/app")),
    "case 46: userinfo": dict(san=san_uri(b"spiffe://u@hud.example/app")),
    "case 46: percent": dict(san=san_uri(b"spiffe://hud.example/%61pp")),
    "case 46: a trailing slash": dict(san=san_uri(b"spiffe://hud.example/app/")),
    "case 46: two slashes": dict(san=san_uri(b"spiffe://hud.example//app")),
    "case 46: dots": dict(san=san_uri(b"spiffe://hud.example/x/../app")),
    "case 46: a query": dict(san=san_uri(b"spiffe://hud.example/app?x")),
    "case 46: a fragment": dict(san=san_uri(b"spiffe://hud.example/app#x")),
    "case 46: 2049 octets": dict(san=san_uri(b"spiffe://hud.example/" + b"a" * 2030)),
    "case 46: another scheme": dict(san=san_uri(b"https://hud.example/app")),
    "case 47: only a DNS name": dict(uris=[], dns=["app.hud.example"]),
    "case 47: only a CN": dict(uris=[], cn="spiffe://hud.example/app"),
    "case 49: a CA": dict(ca=True),
    "case 49: may sign certificates": dict(ca=True, digital=True),
    "case 52: expired": dict(seconds=(-7200, -3600)),
    "case 52: not yet valid": dict(seconds=(3600, 7200)),
    "no digitalSignature": dict(digital=False),
    "another domain's id": dict(uris=["spiffe://other.example/app"]),
    "the peer's domain": dict(uris=["spiffe://irs.example/app"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_certificate_inside(pair, world, origin, name):
    """Signed by the right CA, and still nobody."""
    since = len(refusals(pair.a))
    cert = pair.hud.ca.issue("wrong", **WRONG[name])
    assert refused(world.hud, INSIDE, ask=ASK, name=ECHO_HOST, cert=cert), name
    assert not origin.requests
    assert reason_of(pair.a, since)


def test_right_certificate_of_the_same_maker(pair, world, origin):
    """What the table above changes one thing of is accepted, so that it shows something."""
    cert = pair.hud.ca.issue("app")
    with connect(world.hud, INSIDE, name=ECHO_HOST, ca=pair.hud.ca.bundle, cert=cert) as s:
        assert http(s, ASK)[0] == 200
    assert pair.a.exchange(path="/identity")["principal"] == APP


def test_each_refusal_has_its_reason(pair, world):
    """Five failures, five reasons, in the journal and the operator log."""
    seen = set()
    for name in ("case 44: two URIs", "case 47: only a DNS name", "case 49: a CA", "case 52: expired", "case 52: not yet valid",
                 "case 43: server only"):
        since = len(pair.a.journal("refused"))
        refused(world.hud, INSIDE, ask=ASK, name=ECHO_HOST, cert=pair.hud.ca.issue("wrong", **WRONG[name]))
        new = wait("a record", lambda: pair.a.journal("refused")[since:])
        seen.add(new[-1]["reason"])
    assert len(seen) == 6, seen


def test_no_certificate(pair, world, origin):
    """Case 42: on a tunnel and on a workload listener."""
    for g, ns, to in ((pair.a, world.hud, INSIDE), (pair.a, world.hud, TUNNEL_A), (pair.b, world.hud, TUNNEL_B)):
        since = len(refusals(g))
        assert refused(ns, to, ask=ASK, name=ECHO_HOST)
        assert reason_of(g, since)
    assert not origin.requests


def test_old_tls(pair, world):
    """Case 41: 1.3 or nothing, on every TLS listener."""
    for ns, to in ((world.hud, INSIDE), (world.hud, TUNNEL_A), (world.hud, TUNNEL_B)):
        for version in ("-tls1_2", "-tls1_1"):
            with ns.enter():
                p = subprocess.run(["openssl", "s_client", "-connect", "%s:%d" % to, version, "-cipher", "ALL:@SECLEVEL=0"],
                                   input=b"", capture_output=True, timeout=20)
            assert b"Cipher is (NONE)" in p.stdout or b"alert" in p.stderr, p.stdout[-500:]


def test_no_tickets(pair, world, origin):
    """Case 51: no session ticket is given, so nothing can be resumed."""
    ctx = context(ca=pair.hud.ca.bundle, cert=pair.app)
    with ctx.wrap_socket(world.hud.connect(INSIDE), server_hostname=ECHO_HOST) as s:
        assert http(s, ASK)[0] == 200
        session = s.session
        assert session is None or not session.has_ticket
    with ctx.wrap_socket(world.hud.connect(INSIDE), server_hostname=ECHO_HOST, session=session) as s:
        assert not s.session_reused


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
    """Case 59: refused before it is verified."""
    with open(pair.hud.ca.folder + "/ca/issuing.crt", "rb") as f:
        pem = f.read()
    cert = pair.hud.ca.issue("long", uris=[APP], chain=pem * 20)
    assert refused(world.hud, INSIDE, ask=ASK, name=ECHO_HOST, cert=cert)
    assert not origin.requests


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
    assert wait("a record", lambda: p.b.journal("refused"))[-1]["reason"]
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
