# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 from a workload's link at gateway A's tunnel, well-formed and not. (Cases 1-4, 7-10, 14, 15, 30-33, 86.)"""
import struct
import time

import pytest

from bed.domains import APP, DB_HOST, ECHO_HOST
from bed.gateway import SLOW, wait
from bed.net import World
from bed.tls import H2, connect, frame

TUNNEL = (World.HUD, 443)


def link(pair, world, raw=True):
    return H2(connect(world.hud, TUNNEL, ca=pair.hud.ca.bundle, cert=pair.app, alpn=["h2"]), raw)


@pytest.fixture
def h(pair, world):
    c = link(pair, world)
    yield c
    c.close()


def head(path="/", method="GET", authority=ECHO_HOST, scheme="https"):
    return [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path)]


def well(pair, world, origin):
    """Others are served as before."""
    origin.clear()
    c = link(pair, world)
    assert c.get(ECHO_HOST, "/well")["status"] == 200
    c.close()
    assert pair.get("/well")[0] == 200


def test_plain_requests(pair, h, origin):
    """A workload's own HTTP/2 with its certificate: principal and assurance are its own."""
    r = h.get(ECHO_HOST, "/h2")
    assert (r["status"], r["body"]) == (200, b"echo:")
    r = h.get(ECHO_HOST, "/h2post", "POST", body=b"x" * 60000)
    assert r["body"] == b"echo:" + b"x" * 60000
    a = pair.a.exchange(path="/h2")
    assert a["principal"] == APP and a["assurance"] == "mtls" and a["protocol"] == "h2"
    assert origin.last().line.startswith("POST /h2post HTTP/1.1")


def test_many_streams_at_once(h, origin):
    ids = [h.request(head("/s%d" % i)) for i in range(100)]
    for i in ids:
        assert h.result(i)["status"] == 200


def test_connect_stream(pair, h, echo):
    """RFC 9113 8.5: the shape that HBONE clients speak."""
    sid = h.request([(":method", "CONNECT"), (":authority", DB_HOST + ":5432")], end=False)
    h.pump(lambda: h.streams[sid]["status"])
    assert h.streams[sid]["status"] == 200
    h.c.send_data(sid, b"through", end_stream=True)
    h.flush()
    r = h.result(sid)
    assert r["body"] == b"throughbye" and r["reset"] is None


BAD_FIELDS = {
    "case 30: CR in a value": [("x-a", "a\rb")],
    "case 30: LF in a value": [("x-a", "a\nb")],
    "case 30: CRLF in a value": [("x-a", "a\r\ncontent-length: 5")],
    "case 30: NUL in a value": [("x-a", "a\0b")],
    "case 30: LF in a name": [("x\na", "b")],
    "case 30: a colon in a name": [("x:a", "b")],
    "case 30: a space in a name": [("x a", "b")],
    "case 30: an upper-case name": [("X-Upper", "b")],
    "case 10: an empty name": [("", "b")],
    "case 32: transfer-encoding": [("transfer-encoding", "chunked")],
    "case 32: connection": [("connection", "close")],
    "case 32: proxy-connection": [("proxy-connection", "keep-alive")],
    "case 32: keep-alive": [("keep-alive", "5")],
    "case 32: upgrade": [("upgrade", "h2c")],
    "case 32: te": [("te", "gzip")],
    "case 33: another host": [("host", "other.example")],
    "two lengths": [("content-length", "3"), ("content-length", "4")],
    "a length that is none": [("content-length", "x")],
    "an unknown pseudo field": [(":evil", "x")],
}


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_bad_field(pair, world, origin, name):
    """The stream (or the connection) ends with an error; the service gets nothing."""
    c = link(pair, world)
    r = c.result(c.request(head("/bad") + BAD_FIELDS[name]))
    assert r["reset"] is not None or c.closed or (r["status"] or 0) // 100 == 4, r
    c.close()
    assert not origin.requests and not origin.faults, origin.raw


BAD_PSEUDO = {
    "case 30: CRLF in :path": [(":method", "GET"), (":scheme", "https"), (":authority", ECHO_HOST), (":path", "/x HTTP/1.1\r\nEvil: 1")],
    "case 30: LF in :authority": [(":method", "GET"), (":scheme", "https"), (":authority", ECHO_HOST + "\n"), (":path", "/x")],
    "case 30: NUL in :path": [(":method", "GET"), (":scheme", "https"), (":authority", ECHO_HOST), (":path", "/x\0")],
    "case 30: a space in :method": [(":method", "GET /evil"), (":scheme", "https"), (":authority", ECHO_HOST), (":path", "/x")],
    "case 30: a space in :path": [(":method", "GET"), (":scheme", "https"), (":authority", ECHO_HOST), (":path", "/x y")],
    "no :method": [(":scheme", "https"), (":authority", ECHO_HOST), (":path", "/x")],
    "no :path": [(":method", "GET"), (":scheme", "https"), (":authority", ECHO_HOST)],
    "empty :path": [(":method", "GET"), (":scheme", "https"), (":authority", ECHO_HOST), (":path", "")],
    "no :authority": [(":method", "GET"), (":scheme", "https"), (":path", "/x")],
    "twice": [(":method", "GET"), (":method", "POST"), (":scheme", "https"), (":authority", ECHO_HOST), (":path", "/x")],
    "after fields": [(":method", "GET"), (":scheme", "https"), (":authority", ECHO_HOST), ("x", "y"), (":path", "/x")],
    ":status in a request": [(":status", "200"), (":method", "GET"), (":scheme", "https"), (":authority", ECHO_HOST), (":path", "/x")],
    "CONNECT with :path": [(":method", "CONNECT"), (":scheme", "https"), (":authority", DB_HOST + ":5432"), (":path", "/x")],
    "userinfo": [(":method", "GET"), (":scheme", "https"), (":authority", "u@" + ECHO_HOST), (":path", "/x")],
    "absolute :path": [(":method", "GET"), (":scheme", "https"), (":authority", ECHO_HOST), (":path", "http://other/")],
    "case 34: dots": [(":method", "GET"), (":scheme", "https"), (":authority", ECHO_HOST), (":path", "/a/../b")],
    "case 34: a fragment": [(":method", "GET"), (":scheme", "https"), (":authority", ECHO_HOST), (":path", "/a#b")],
}


@pytest.mark.parametrize("name", BAD_PSEUDO)
def test_bad_pseudo_field(pair, world, origin, name):
    c = link(pair, world)
    r = c.result(c.request(BAD_PSEUDO[name]))
    assert r["reset"] is not None or c.closed or (r["status"] or 0) // 100 == 4, r
    c.close()
    assert not origin.requests and not origin.faults, origin.raw


@pytest.mark.parametrize("said,sent", [(5, 3), (3, 5), (0, 1)])
def test_length_mismatch(pair, world, origin, said, sent):
    """Case 31: the stream is reset and the service never has a whole request."""
    c = link(pair, world)
    sid = c.request(head("/mismatch", "POST") + [("content-length", str(said))], end=False)
    c.c.send_data(sid, b"x" * sent, end_stream=True)
    c.flush()
    r = c.result(sid)
    # A length of 0 is whole with its head: it may be answered before anybody sees what comes after it.
    assert r["reset"] is not None or c.closed or (r["status"] or 0) // 100 == 4 or said == 0 and r["status"] == 200, r
    c.close()
    time.sleep(0.1)
    # What came after it has not gone on. Of another length a part may have.
    assert all(len(f) < said for f in origin.faults) and (not origin.requests or said == 0 and origin.last().body == b"")


def test_length_of_a_bodyless_request(pair, world, origin):
    """Case 31: END_STREAM on the head, and a length that promises more."""
    c = link(pair, world)
    r = c.result(c.request(head("/mismatch", "POST") + [("content-length", "5")]))
    assert r["reset"] is not None or c.closed or (r["status"] or 0) // 100 == 4, r
    c.close()
    assert not origin.requests


def test_control_authority(pair, world, origin):
    """Case 86: a workload names the reserved authority, by :authority, host, and CONNECT."""
    before = len(pair.a.journal("alert"))
    c = link(pair, world)
    for fields in (head("/hello", authority="control.sallyport.invalid"), head("/", authority="control.sallyport.invalid:443"),
                   [(":method", "CONNECT"), (":authority", "control.sallyport.invalid:443")],
                   [(":method", "GET"), (":scheme", "https"), (":path", "/"), ("host", "control.sallyport.invalid")]):
        r = c.result(c.request(fields))
        assert r["status"] != 200, (fields, r)
        if c.closed:
            c = link(pair, world)
    c.close()
    wait("an alert", lambda: len(pair.a.journal("alert")) > before)


def test_no_way_to_other_services(pair, world, origin, echo):
    """CONNECT to an HTTP service, HTTP to a TCP service, unknown hosts."""
    c = link(pair, world)
    for fields in ([(":method", "CONNECT"), (":authority", ECHO_HOST + ":80")], [(":method", "CONNECT"), (":authority", "10.2.0.30:9000")],
                   head("/", authority="nowhere.example"), head("/", authority=DB_HOST + ":5432")):
        r = c.result(c.request(fields))
        assert r["status"] in (400, 403, 404, 421), (fields, r)
    c.close()
    assert not origin.requests


def test_identity_fields_are_dropped(pair, h, origin):
    """Case 66 over HTTP/2."""
    names = ["sallyport-principal", "client-cert", "client-cert-chain", "x-forwarded-client-cert", "x-forwarded-for", "forwarded",
             "sallyport-policy-context", "x_forwarded_for"]
    assert h.get(ECHO_HOST, "/spoof2", fields=[(n, "evil-value") for n in names])["status"] in (200, 400)
    for r in origin.requests:
        assert b"evil-value" not in r.head and r.get("sallyport-principal") == [APP]


def test_server_push_from_a_client(pair, world, origin):
    """Case 15: PUSH_PROMISE from a client ends the connection."""
    c = link(pair, world)
    c.raw(frame(5, 4, 1, struct.pack("!I", 2) + b"\x82"))
    c.pump(lambda: c.goaway is not None)
    assert c.goaway is not None or c.closed
    c.close()


def test_rapid_reset(pair, world, origin):
    """Case 1: streams opened and reset at once: GOAWAY (ENHANCE_YOUR_CALM), an alert, and nobody else notices."""
    c = link(pair, world)
    try:
        for _ in range(40):
            for _ in range(50):
                sid = c.request(head("/rapid"))
                c.c.reset_stream(sid, 8)
            c.flush()
            try:
                c.pump(lambda: c.goaway is not None, 0.02)
            except AssertionError:
                pass
            if c.goaway is not None or c.closed:
                break
    except OSError:
        c.closed = True
    assert c.goaway == 11, c.goaway
    assert wait("an alert", lambda: pair.a.journal("alert", reason="reset-flood"))
    c.close()
    well(pair, world, origin)


FLOODS = {
    "case 7: SETTINGS": lambda i: frame(4, 0, 0),
    "case 8: PING": lambda i: frame(6, 0, 0, struct.pack("!Q", i)),
    "case 9: empty DATA": None,
    "case 3: CONTINUATION": None,
}


@pytest.mark.parametrize("name", FLOODS)
def test_flood(pair, world, origin, name):
    """A flood of frames that cost us more than the sender ends with GOAWAY or is bounded; memory is; others are served."""
    before = pair.a.rss()
    c = link(pair, world)
    c.sock.settimeout(10 * SLOW)
    try:
        if "DATA" in name:
            sid = c.request(head("/flood", "POST"), end=False)
            for _ in range(200):
                c.raw(frame(0, 0, sid) * 100)
        elif "CONTINUATION" in name:
            c.raw(frame(1, 0, 1, b"\x82\x87\x84"))
            for i in range(2000):
                c.raw(frame(9, 0, 1, b"\x40\x03x-%c\x40" % (97 + i % 26) + b"v" * 64))
        else:
            for i in range(200):
                c.raw(b"".join(FLOODS[name](k) for k in range(100)))
    except OSError:
        c.closed = True
    try:
        c.pump(lambda: c.goaway is not None, 3)
    except Exception:  # noqa: BLE001 - what the library thinks of it does not matter
        pass
    c.close()
    assert pair.a.rss() - before < (8 << 20) * SLOW
    well(pair, world, origin)


def test_hpack_bomb(pair, world, origin):
    """Cases 5 and 6: small on the wire, large decoded: 431 or a reset; memory does not grow."""
    before = pair.a.rss()
    c = link(pair, world)
    sid = c.request(head("/bomb") + [("x-bomb", "b" * 3000)])
    c.result(sid)
    for _ in range(20):
        if c.closed:
            break
        # 3000 octets once in the table, then named by one octet each
        sid = c.request(head("/bomb") + [("x-bomb", "b" * 3000)] * 200)
        r = c.result(sid)
        assert r["reset"] is not None or c.closed or r["status"] in (400, 431), r
    c.close()
    assert pair.a.rss() - before < (4 << 20) * SLOW
    assert len(origin.requests) <= 1


def test_too_many_fields(pair, world, origin):
    c = link(pair, world)
    r = c.result(c.request(head("/fields") + [("x-%d" % i, "v") for i in range(500)]))
    assert r["reset"] is not None or c.closed or r["status"] in (400, 431)
    c.close()
    assert not origin.requests


WRONG_FRAMES = {
    "case 14: window increment of 0": frame(8, 0, 0, struct.pack("!I", 0)),
    "case 14: window overflow": frame(8, 0, 0, struct.pack("!I", 0x7fffffff)) * 2,
    "DATA on stream 0": frame(0, 0, 0, b"x"),
    "HEADERS on an even stream": frame(1, 5, 2, b"\x82\x87\x84"),
    "a frame that is too large": frame(0, 0, 1, b"x" * 70000),
    "SETTINGS of 5 octets": frame(4, 0, 0, b"12345"),
    "PING of 7 octets": frame(6, 0, 0, b"1234567"),
    "CONTINUATION out of nowhere": frame(9, 4, 1, b"\x82"),
    "bad HPACK": frame(1, 5, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
    "RST of an idle stream": frame(3, 0, 99, struct.pack("!I", 8)),
    "a wrong enable_push": frame(4, 0, 0, struct.pack("!HI", 2, 7)),
}


@pytest.mark.parametrize("name", WRONG_FRAMES)
def test_wrong_frame(pair, world, origin, name):
    c = link(pair, world)
    try:
        c.raw(WRONG_FRAMES[name])
        c.pump(lambda: c.goaway is not None, 5)
    except OSError:
        c.closed = True
    assert c.goaway not in (None, 0) or c.closed
    c.close()


def test_no_http2_at_all(pair, world):
    """Bytes that are no preface."""
    s = connect(world.hud, TUNNEL, cert=pair.app, alpn=["h2"])
    s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    s.settimeout(5 * SLOW)
    try:
        while s.recv(4096):
            pass
    except OSError:
        pass
    s.close()


@pytest.mark.limit(120)
def test_cancels_on_a_shared_link(pair, world, origin):
    """Case 92: 3,000 requests of one caller, each cancelled under way, over the links that all share: the caller may be limited,
    the link and the other callers are not."""
    downs = len(pair.a.journal("link-down"))

    def slow(c, r):
        time.sleep(0.2)
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    origin.answers["/cancel"] = slow
    for _ in range(60):
        socks = []
        for _ in range(50):
            s = pair.legacy()
            s.sendall(("GET /cancel HTTP/1.1\r\nHost: %s\r\n\r\n" % ECHO_HOST).encode())
            socks.append(s)
        for s in socks:
            s.close()
    c = link(pair, world)
    assert c.get(ECHO_HOST, "/others")["status"] == 200
    c.close()
    assert len(pair.a.journal("link-down")) == downs
    wait("the caller may call again", lambda: pair.get("/again", source="10.1.0.7")[0] == 200)


def test_the_gateways_are_well(pair, world, origin):
    well(pair, world, origin)
    for g in (pair.a, pair.b):
        st = g.status()
        assert all(r["restarts"] == 0 for r in st["roles"]), st["roles"]
        g.verify()
