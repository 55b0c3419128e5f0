# SPDX-License-Identifier: Apache-2.0
"""Revocation lists: what they forbid, how they travel between gateways, and what is quarantined without one. (Cases 53, 54.)"""
import contextlib
import datetime
import os
import shutil

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from bed.domains import ECHO_HOST, TAX_HOST
from bed.gateway import SLOW, curl, recv_all, wait
from bed.net import World
from bed.tls import H2, connect

CONTROL = "control.sallyport.invalid"


def crl(domain, *args):
    """The operator makes a list; its file."""
    domain._ctl("crl", *args)
    return domain.folder + "/" + domain.name + ".crl"


def revoke(domain, name, reason="keyCompromise"):
    domain._ctl("revoke", name, "--reason", reason)
    return domain.folder + "/" + domain.name + ".crl"


def short_crl(domain, seconds, number=1):
    """One that ends sooner than gwctl would make it."""
    now = datetime.datetime.utcnow()
    c = (x509.CertificateRevocationListBuilder().issuer_name(domain.ca.cert.subject).last_update(now - datetime.timedelta(minutes=1))
         .next_update(now + datetime.timedelta(seconds=seconds)).add_extension(x509.CRLNumber(number), False)
         .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(domain.ca.key.public_key()), False)
         .sign(domain.ca.key, hashes.SHA256()))
    path = domain.folder + "/short.crl"
    with open(path, "wb") as f:
        f.write(c.public_bytes(serialization.Encoding.PEM))
        f.write(domain.ca.chain)
    return path


def put(src, dst):
    """As an operator should: whole or not at all."""
    shutil.copy(src, dst + ".new")
    os.rename(dst + ".new", dst)


def call(p, path="/v1/x", cert=None):
    """The application with a certificate: its status."""
    cert = cert or p.app
    return curl(p.world.hud, "--cert", cert.crt, "--key", cert.keyfile, "--cacert", p.hud.ca.bundle, "--connect-to", "::10.1.0.10:443",
                "https://%s%s" % (TAX_HOST, path))[0]


def links(g, state=None):
    return [x for q in g.json("peers")["peers"] for x in q["links"] if state in (None, x["state"])]


def alerts(g, reason):
    return g.journal("alert", reason=reason)


@pytest.fixture
def lists(make_pair):
    """A pair whose gateways may have a list of their own domain in a file of their folder, and ask it of each other as told."""
    def make(a="required", b="required", files=("a", "b"), **kw):
        p = make_pair(start=False, a={"identity": {"crl": "own.crl"}}, b={"identity": {"crl": "own.crl"}}, peer_a={"revocation": a},
                      peer_b={"revocation": b}, **kw)
        for g, domain in ((p.a, p.hud), (p.b, p.irs)):
            file = crl(domain)
            if os.path.basename(g.folder) in files:
                put(file, g.folder + "/own.crl")
        return p.start()
    return make


def test_both_have_lists(lists):
    """Each has its own list in a file and none of the other's: they fetch them, and calls cross; that survives a restart of one."""
    p = lists()
    wait("calls to cross", lambda: call(p) == 200, 15)
    wait("all links to have lists", lambda: not links(p.a, "quarantined") and not links(p.b, "quarantined"), 15)  # each asks for its own
    assert not alerts(p.a, "crl-refused") and not alerts(p.b, "crl-refused")
    # What came over a link is kept.
    assert os.listdir(p.b.folder + "/state/crl") == ["hud.example"]
    before = len(alerts(p.b, "quarantined"))
    p.b.stop()
    p.b.start()
    wait("calls to cross again", lambda: call(p) == 200, 15)
    assert len(alerts(p.b, "quarantined")) == before


@pytest.mark.parametrize("dial", ["a", "b"])
def test_quarantine(lists, dial):
    """Case 53: B requires a list that A does not have yet. Links are up and good for nothing else; with the list they are, without a restart.
    Whoever dials: A alone opens streams."""
    p = lists(a="off", files=(), dial=dial, ways=[("hud", "irs")] if dial == "a" else [("irs", "hud")])
    wait("quarantine", lambda: links(p.b, "quarantined") and not links(p.b, "ready"))
    wait("its record", lambda: alerts(p.b, "quarantined"))
    for a in alerts(p.b, "quarantined"):
        assert a["peer"] == "hud" and "link" not in a, a["line"]
    assert len(alerts(p.b, "quarantined")) <= p.b.config["workers"]
    assert call(p) == 503
    assert p.b.record("deny", reason="no-crl")["status"] == "503"
    put(crl(p.hud), p.a.folder + "/own.crl")
    p.a.reload()
    wait("calls to cross", lambda: call(p) == 200, 20)
    wait("an end of it", lambda: links(p.b, "ready") and not links(p.b, "quarantined"))
    wait("each worker's record", lambda: len(alerts(p.b, "crl-in-force")) == len(alerts(p.b, "quarantined")))


def test_caller_side(lists):
    """Case 53: A requires a list of B that B does not have: nothing goes out, and A says so itself."""
    p = lists(b="off", files=())
    wait("quarantine", lambda: links(p.a, "quarantined") and not links(p.a, "ready"))
    assert call(p) == 503
    assert not p.b.journal("deny")
    put(crl(p.irs), p.b.folder + "/own.crl")
    p.b.reload()
    wait("calls to cross", lambda: call(p) == 200, 20)


def test_list_runs_out(lists):
    """Case 53: the list in force ends while everything runs: quarantined, callers that were known before included; a newer one ends it."""
    p = lists(a="off", files=())
    put(short_crl(p.hud, 12 * SLOW), p.a.folder + "/own.crl")
    p.a.reload()
    wait("calls to cross", lambda: call(p) == 200, 10)
    wait("the end of it", lambda: call(p) == 503, 20)
    wait("quarantine", lambda: links(p.b, "quarantined"))
    assert p.b.record("deny", reason="no-crl")
    put(crl(p.hud), p.a.folder + "/own.crl")
    wait("calls to cross again", lambda: call(p) == 200, 20)  # the file is looked at without being told to


def test_revoked_caller(lists):
    """A caller is revoked: A, which has the old list, lets it through; B, whose operator got the newer one another way, does not."""
    p = lists(b="if-present")
    old = p.a.folder + "/own.crl"
    wait("a call to cross", lambda: call(p) == 200, 10)
    b = dict(p.b.config["peers"][0], crl="hud.crl")
    put(revoke(p.hud, "app"), p.b.folder + "/hud.crl")
    p.b.write(peers=[b])
    p.b.reload()
    wait("a refusal", lambda: call(p) == 403, 10)
    assert p.b.record("deny", reason="revoked")["detail"] == "spiffe://hud.example/app"
    # The other gateway's older list, told again and again, changes nothing.
    put(old, p.a.folder + "/own.crl")
    p.a.reload()
    p.b.reload()
    assert call(p) == 403


def test_pushed(lists, nginx):
    """Case 54: the calling domain revokes a caller: B learns it over the link without asking, and cuts what runs."""
    p = lists()
    wait("a call to cross", lambda: call(p) == 200, 15)
    with connect(p.world.hud, ("10.1.0.10", 443), ca=p.hud.ca.bundle, cert=p.app) as s:
        s.sendall(("GET /slow/big.bin HTTP/1.1\r\nHost: %s\r\n\r\n" % TAX_HOST).encode())
        assert s.recv(1000).startswith(b"HTTP/1.1 200")
        wait("its record", lambda: p.b.journal("exchange-open", path="/slow/big.bin"))
        put(revoke(p.hud, "app"), p.a.folder + "/own.crl")
        end = p.b.exchange(path="/slow/big.bin", seconds=10)
        assert end["verdict"] == "allow" and end["reason"] == "revoked" and int(end["bytes_out"]) > 0, end["line"]
        with contextlib.suppress(ConnectionResetError):  # an answer cut short is a reset; not every Python and OpenSSL tells
            assert len(recv_all(s)) < 64 << 20
    wait("a refusal", lambda: call(p) == 403)
    assert p.b.record("deny", reason="revoked")["detail"] == "spiffe://hud.example/app"
    # Others of that domain go on.
    assert p.get("/", host=ECHO_HOST)[0] == 200


def test_revoked_gateway(lists):
    """The peer's gateway itself is revoked: its links are cut, and it gets no new one."""
    p = lists(a="off", b="required", files=("a",))
    wait("a call to cross", lambda: call(p) == 200, 15)
    put(revoke(p.hud, "gateway/dmz1"), p.a.folder + "/own.crl")
    p.a.reload(check=False)
    wait("an end of the links", lambda: not links(p.b), 15)
    assert p.b.record("link-down", reason="revoked")
    wait("a refusal", lambda: [r for r in p.b.journal() if r["msgid"] in ("refused", "alert") and r["reason"] == "revoked"], 15)


class Rogue(H2):
    """A gateway of hud.example that says what it likes on a link to B."""

    def __init__(self, p):
        super().__init__(connect(p.world.hud, (World.IRS, 443), name="irs.example", cert=p.hud.gateway, alpn=["h2"]))
        s = self.get(CONTROL, "/hello", "POST", [("sallyport-hello", "0;1;4242;64;%d" % (10 ** 13))])
        assert s["status"] == 200, s

    def crl(self, body=None, has="-"):
        """What B answers to a list."""
        fields = [(":method", "POST"), (":scheme", "https"), (":authority", CONTROL), (":path", "/crl"), ("sallyport-crl", has)]
        sid = self.request(fields, end=body is None)
        while body and not self.streams[sid]["ended"]:
            n = min(self.c.local_flow_control_window(sid), 16000)
            if n:
                self.c.send_data(sid, body[:n], end_stream=n >= len(body))
                body = body[n:]
                self.flush()
            else:
                self.pump(lambda: self.streams[sid]["ended"] or self.c.local_flow_control_window(sid))
        return self.result(sid)


def test_rogue_gateway(lists):
    """Case 53: what a rogue gateway sends is malformed, another domain's, older, tampered with or too large: none of it is taken, and what B had stays."""
    p = lists(a="off")
    wait("a call to cross", lambda: call(p) == 200, 15)
    with open(p.a.folder + "/own.crl", "rb") as f:
        old = f.read()
    put(crl(p.hud), p.a.folder + "/own.crl")
    p.a.reload()
    kept = p.b.folder + "/state/crl/hud.example"
    with open(kept, "rb") as f:
        before = f.read()
    with open(crl(p.irs), "rb") as f:
        foreign = f.read()

    def newer():
        with open(kept, "rb") as f:
            return f.read() != before
    wait("the newer list to be kept", newer, 10)
    p.a.stop()
    with open(kept, "rb") as f:
        known = f.read()
    digest = None
    for body in (b"no list", old.replace(b"A", b"B"), foreign, old, b"-----BEGIN X509 CRL-----\n" * 100, b"x" * (5 << 20)):
        r = Rogue(p)
        try:
            s = r.crl(body)
        except (BrokenPipeError, ConnectionResetError):
            s = {"status": None}  # it would not hear it all
        assert s["status"] in (200, 204, 503, None), (body[:40], s)
        if s["status"]:
            digest = digest or dict(s["fields"])["sallyport-crl"]
            assert dict(s["fields"])["sallyport-crl"] == digest, "B still has what it had"
        r.close()
        wait("a pause", lambda: Rogue(p).crl()["status"] == 200)
    r = Rogue(p)
    assert r.crl(has="zz")["status"] == 400
    s = r.crl()
    assert s["status"] == 200 and b"BEGIN X509 CRL" in s["body"], "B's own list is for whoever is its peer"
    with open(kept, "rb") as f:
        assert f.read() == known
    a = alerts(p.b, "crl-refused")
    assert a and all(x["gateway"] == p.hud.gateway_id for x in a), a
    assert len(a) <= p.b.config["workers"], "at most one a minute and worker"
    assert "event=crl-refused" in p.b.log()
    p.a.start()
    wait("calls to cross again", lambda: call(p) == 200, 15)


def test_control_is_for_gateways(lists):
    """A workload's certificate is no way to it."""
    p = lists()
    h = H2(connect(p.world.hud, (World.HUD, 443), cert=p.app, alpn=["h2"]))
    s = h.get(CONTROL, "/crl", "POST", [("sallyport-crl", "-")])
    assert s["status"] in (400, 403, 404, 421), s
