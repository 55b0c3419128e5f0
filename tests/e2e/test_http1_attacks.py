# SPDX-License-Identifier: Apache-2.0
"""What HTTP/1.1 lets an attacker try, and the one answer that each gets. (Cases 22-29, 33-37, 39, 40, 66, 86, 88.)"""
import re
import socket
import time

import pytest

from bed.domains import COBOL, DB_HOST, ECHO_HOST, TAX_HOST
from bed.gateway import SLOW, http, http_read, recv_all, wait

H = ECHO_HOST.encode()


def send(pair, data, timeout=5):
    """Everything that comes back until the gateway closes."""
    with pair.legacy() as s:
        s.sendall(data)
        try:
            return recv_all(s, timeout)
        except ConnectionResetError:
            return b""
        except socket.timeout:
            raise AssertionError("the gateway neither answered nor closed: %r" % data[:100])


def refused(pair, origin, data, statuses=(400,)):
    """Answered with one of these, closed, and nothing reached the service."""
    got = send(pair, data)
    status = int(got.split(b" ")[1]) if got else 0
    assert status in statuses, (data[:200], got[:200])
    assert got.count(b"HTTP/1.1 ") == 1, got
    assert not origin.requests and not origin.faults, origin.raw
    return got


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: " + H + b"\r\n\r\n"

# name: (head without Host, what follows it), each ambiguous somewhere; case 22 is the family, the others are named.
ATTACKS = {
    "case 23: both lengths": (b"POST / HTTP/1.1\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\nG"),
    "case 23: both lengths, swapped": (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n", b"5c\r\nGET"),
    "case 24: two lengths": (b"POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 44\r\n", SMUGGLED),
    "case 24: two equal lengths": (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n", b"abc"),
    "case 24: a list of lengths": (b"POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n", b"abc"),
    "case 24: a signed length": (b"POST / HTTP/1.1\r\nContent-Length: +3\r\n", b"abc"),
    "case 24: a negative length": (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n", b"abc"),
    "case 24: a hexadecimal length": (b"POST / HTTP/1.1\r\nContent-Length: 0x3\r\n", b"abc"),
    "case 24: no length": (b"POST / HTTP/1.1\r\nContent-Length:\r\n", SMUGGLED),
    "case 24: a length of many digits": (b"POST / HTTP/1.1\r\nContent-Length: 18446744073709551619\r\n", b"abc"),
    "case 24: a length with a space": (b"POST / HTTP/1.1\r\nContent-Length: 1 0\r\n", b"abc"),
    "case 26: a folded line": (b"POST / HTTP/1.1\r\nX-A: b\r\n Content-Length: 44\r\n", SMUGGLED),
    "case 26: a folded length": (b"POST / HTTP/1.1\r\nContent-Length:\r\n 3\r\n", b"abc"),
    "case 26: folded by a tab": (b"GET / HTTP/1.1\r\nX-A: b\r\n\tc\r\n", b""),
    "case 27: a bare LF ends a field": (b"POST / HTTP/1.1\r\nX: y\nContent-Length: 44\r\n", SMUGGLED),
    "case 27: a bare CR in a value": (b"GET / HTTP/1.1\r\nX: y\rTransfer-Encoding: chunked\r\n", b""),
    "case 27: NUL in a value": (b"GET / HTTP/1.1\r\nX: a\0b\r\n", b""),
    "case 27: NUL in a name": (b"GET / HTTP/1.1\r\nX\0: a\r\n", b""),
    "case 27: a control byte in a value": (b"GET / HTTP/1.1\r\nX: a\x01b\r\n", b""),
    "case 28: a space before the colon": (b"POST / HTTP/1.1\r\nContent-Length : 3\r\n", b"abc"),
    "case 28: a space before chunked's colon": (b"POST / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n", b"0\r\n\r\n"),
    "case 28: an empty name": (b"GET / HTTP/1.1\r\n: x\r\n", b""),
    "case 28: a line without a colon": (b"GET / HTTP/1.1\r\nnocolon\r\n", b""),
    "case 28: a space first": (b"GET / HTTP/1.1\r\n X: y\r\n", b""),
    "case 22: a name with a slash": (b"GET / HTTP/1.1\r\nX/Y: z\r\n", b""),
    "case 22: a tab in the request line": (b"GET\t/\tHTTP/1.1\r\n", b""),
    "case 22: two spaces in the request line": (b"GET  / HTTP/1.1\r\n", b""),
    "case 22: a space in the target": (b"GET /a b HTTP/1.1\r\n", b""),
    "case 22: HTTP/1.10": (b"GET / HTTP/1.10\r\n", b""),
    "case 22: lower-case http": (b"GET / http/1.1\r\n", b""),
    "case 22: HTTP/0.9": (b"GET /\r\n", b""),
    "case 22: a method that is no token": (b"G@T / HTTP/1.1\r\n", b""),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_ambiguous_head(pair, origin, name):
    head, rest = ATTACKS[name]
    refused(pair, origin, head + b"Host: " + H + b"\r\n\r\n" + rest)


CODINGS = {
    "case 25: identity first": b"identity, chunked", "case 25: gzip": b"gzip", "case 25: gzip, chunked": b"gzip, chunked",
    "case 25: twice": b"chunked, chunked", "case 25: unknown": b"xchunked", "case 25: quoted": b'"chunked"',
    "case 25: vertical tab": b"\x0bchunked", "case 25: a parameter": b"chunked;q=1", "case 25: empty element": b",chunked",
    "case 25: chunked, identity": b"chunked, identity", "case 25: empty": b"",
}


@pytest.mark.parametrize("name", CODINGS)
def test_transfer_coding(pair, origin, name):
    """Case 25: anything but the one word "chunked"."""
    refused(pair, origin, b"POST / HTTP/1.1\r\nHost: " + H + b"\r\nTransfer-Encoding: " + CODINGS[name] + b"\r\n\r\n0\r\n\r\n", (400, 501))


def test_two_transfer_codings(pair, origin):
    """Case 25: the same as a list of two lines."""
    refused(pair, origin, b"POST / HTTP/1.1\r\nHost: " + H +
            b"\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", (400, 501))


def test_chunked_in_http_1_0(pair, origin):
    """RFC 9112 6.1: Transfer-Encoding in a 1.0 message is a fault."""
    refused(pair, origin, b"POST / HTTP/1.0\r\nHost: " + H + b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400, 501))


CHUNKS = {
    "case 29: size beyond 64 bits": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "case 29: size of 17 digits": b"00000000000000003\r\nabc\r\n0\r\n\r\n",
    "case 29: huge size": b"ffffffffffffffff\r\nabc",
    "case 29: negative": b"-3\r\nabc\r\n0\r\n\r\n",
    "case 29: 0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "case 29: no size": b"\r\nabc\r\n0\r\n\r\n",
    "case 29: CR in an extension": b"3;a=\rb\r\nabc\r\n0\r\n\r\n",
    "case 29: LF in an extension": b"3;a=\nb\r\nabc\r\n0\r\n\r\n",
    "case 29: bare LF after the size": b"3\nabc\r\n0\r\n\r\n",
    "case 29: space before the size": b" 3\r\nabc\r\n0\r\n\r\n",
    "case 29: no CRLF after the data": b"3\r\nabcX\r\n0\r\n\r\n",
    "case 29: bare LF after the data": b"3\r\nabc\n0\r\n\r\n",
    "case 29: NUL in the size": b"3\0\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", CHUNKS)
def test_bad_chunk(pair, origin, name):
    """The exchange ends, the connection too; the service never sees a whole request."""
    got = send(pair, b"POST /bad HTTP/1.1\r\nHost: " + H + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS[name])
    assert not got or got.split(b" ")[1] in (b"400", b"502"), got
    assert got.count(b"HTTP/1.1 ") <= 1
    time.sleep(0.05)
    assert not origin.requests, origin.requests[0].head


def test_bad_trailer(pair, origin):
    """Case 29's neighbour: a trailer section is held to the same rules."""
    for bad in (b"X : y", b" X: y", b"X: \0", b"nocolon"):
        origin.clear()
        got = send(pair, b"POST /bad HTTP/1.1\r\nHost: " + H + b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + bad + b"\r\n\r\n")
        assert not got or got.split(b" ")[1] == b"400", (bad, got)
        assert not origin.requests


HOSTS = {
    "none": (b"GET / HTTP/1.1\r\n\r\n", (400,)),
    "two": (b"GET / HTTP/1.1\r\nHost: " + H + b"\r\nHost: other\r\n\r\n", (400,)),
    "two equal": (b"GET / HTTP/1.1\r\nHost: " + H + b"\r\nHost: " + H + b"\r\n\r\n", (400,)),
    "empty": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", (400, 403, 404, 421)),
    "userinfo": (b"GET / HTTP/1.1\r\nHost: u@" + H + b"\r\n\r\n", (400,)),
    "a list": (b"GET / HTTP/1.1\r\nHost: " + H + b", x\r\n\r\n", (400,)),
    "a path": (b"GET / HTTP/1.1\r\nHost: " + H + b"/x\r\n\r\n", (400,)),
    "a bad port": (b"GET / HTTP/1.1\r\nHost: " + H + b":99999\r\n\r\n", (400,)),
    "case 33: not the target's": (b"GET http://" + TAX_HOST.encode() + b"/ HTTP/1.1\r\nHost: " + H + b"\r\n\r\n", (400,)),
    "unknown": (b"GET / HTTP/1.1\r\nHost: nowhere.example\r\n\r\n", (403, 404, 421)),
}


@pytest.mark.parametrize("name", HOSTS)
def test_host(pair, origin, name):
    data, statuses = HOSTS[name]
    got = send(pair, data.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert got and int(got.split(b" ")[1]) in statuses, got
    assert not origin.requests


UNRESERVED = re.compile("%(2[de]|3[0-9]|[46][1-9a-f]|[57][0-9a]|5f|7e)", re.I)
PATHS = ["/a/../b", "/a/%2e%2e/b", "/a/.%2E/b", "/%2fadmin", "/a%2Fb", "/a%5cb", "/a\\b", "/a//b", "//a", "/a;b=c/d", "/a#b", "/a/./b", "/%00",
         "/a%0d%0ab", "/%zz", "/%4", "/a%25%32%66b"]


@pytest.mark.parametrize("path", PATHS)
def test_path_tricks(pair, origin, path):
    """Case 34: refused, or the policy (its journal shows what it saw) and the service see identical octets."""
    got = send(pair, b"GET " + path.encode() + b" HTTP/1.1\r\nHost: " + H + b"\r\nConnection: close\r\n\r\n")
    status = int(got.split(b" ")[1])
    if status == 400:
        assert not origin.requests
        return
    assert status in (200, 403), got
    if status == 200:
        seen = origin.last().line.split(" ")[1]
        assert pair.a.exchange(path=seen) and pair.b.exchange(path=seen)
        assert seen == UNRESERVED.sub(lambda m: chr(int(m.group(1), 16)), path)  # these are decoded, once, and nothing else
    else:
        assert not origin.requests


def test_unreserved_octets_are_decoded_once(pair, origin, nginx):
    """Case 88: /%61dmin gets the verdict of /admin: B's rules do not allow it, though A's do."""
    plain = pair.get("/admin/x", host=TAX_HOST)
    for path in ("/%61dmin/x", "/%61%64%6d%69%6e/x", "/%61dmi%6E/%78"):
        status, _, body = pair.get(path, host=TAX_HOST)
        assert status == plain[0] == 403, path
    wait("four records", lambda: len(pair.b.journal("deny", path="/admin/x")) == 4)
    assert not [r for r in nginx.requests() if "admin" in r]


def test_query_is_not_matched(pair, nginx):
    """Paths are matched without the query."""
    assert pair.get("/v1/q?/admin/../x=%2f", host=TAX_HOST)[0] == 200
    assert pair.get("/other?/v1/", host=TAX_HOST)[0] == 403


def test_bytes_after_a_refused_connect(pair, origin, echo):
    """Case 35: what follows a refused CONNECT is never parsed as a request."""
    with pair.legacy("10.1.0.8") as s:  # a caller that no rule allows
        s.sendall(("CONNECT %s:5432 HTTP/1.1\r\nHost: %s:5432\r\n\r\n" % (DB_HOST, DB_HOST)).encode() + SMUGGLED)
        try:
            got = recv_all(s)
        except ConnectionResetError:
            got = b"HTTP/1.1 403"
    assert got.split(b" ")[1] == b"403" and got.count(b"HTTP/1.1 ") == 1
    assert not origin.requests


def test_tunnel_data_before_the_answer(pair, echo):
    """Case 36: octets that come with the CONNECT, before its 2xx, are refused."""
    del echo.ends[:]
    with pair.legacy() as s:
        s.sendall(("CONNECT %s:5432 HTTP/1.1\r\nHost: %s:5432\r\n\r\nearly" % (DB_HOST, DB_HOST)).encode())
        try:
            got = recv_all(s)
        except ConnectionResetError:
            got = b""
    assert b"early" not in got and (not got or got.split(b" ")[1] == b"400"), got
    assert ("eof", 5) not in echo.ends


def test_connect_reaches_only_tcp_services(pair, origin, echo):
    """CONNECT is no way around an HTTP rule; nor does it reach what is not listed."""
    for target in (ECHO_HOST + ":80", ECHO_HOST + ":9000", TAX_HOST + ":80", DB_HOST + ":5433", DB_HOST, "10.2.0.30:5432"):
        with pair.legacy() as s:
            status, _, _ = http(s, ("CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, target)).encode())
        assert status in (400, 403, 404, 421), target
    assert not origin.requests


def test_http_to_a_tcp_service(pair, echo):
    """A GET to a service of kind tcp is refused."""
    status, _, _ = pair.get("/", host=DB_HOST + ":5432")
    assert status in (400, 403, 404, 421)


def test_upgrade_is_refused(pair, origin):
    """Case 37: neither h2c nor any other Upgrade crosses; the request is answered as if it had not been asked, or refused."""
    with pair.legacy() as s:
        s.sendall(b"GET /up HTTP/1.1\r\nHost: " + H + b"\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n"
                  b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n")
        got = recv_all(s)
    assert b" 101 " not in got and got.split(b" ")[1] in (b"200", b"400", b"501")
    for r in origin.requests:
        assert not {"upgrade", "http2-settings"} & set(r.names())


def test_http2_preface_on_a_plaintext_listener(pair, origin):
    """Case 37: prior knowledge is no way in either."""
    got = send(pair, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
    assert not got or got.split(b" ")[1] in (b"400", b"505"), got


def test_trace_and_options(pair, origin):
    """Methods are the policy's business, TRACE too; asterisk-form is answered, never confused."""
    assert pair.get("/v1/x", host=TAX_HOST, method="TRACE")[0] == 403
    got = send(pair, b"OPTIONS * HTTP/1.1\r\nHost: " + H + b"\r\nConnection: close\r\n\r\n")
    assert int(got.split(b" ")[1]) in (200, 400, 403, 501)


def test_spoofed_identity(pair, origin):
    """Case 66: what an application says about itself is dropped, with _ for - too, and ours is there once."""
    names = ["Sallyport-Principal", "sallyport_principal", "Sallyport-Exchange", "Client-Cert", "Client-Cert-Chain", "client_cert",
             "X-Forwarded-Client-Cert", "X_Forwarded_Client_Cert", "X-Forwarded-For", "X_Forwarded_For", "X-Forwarded-Host",
             "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "Sallyport-Policy-Context", "SALLYPORT-ASSURANCE", "Sallyport-Slot",
             "Sallyport-Anything"]
    status, _, _ = pair.get("/spoof", fields="".join("%s: evil-value\r\n" % n for n in names))
    assert status == 200
    r = origin.last()
    assert "evil-value" not in r.head.decode()
    assert r.get("sallyport-principal") == [COBOL]
    assert len(r.get("sallyport-exchange")) == 1 and len(r.get("forwarded")) == 1


def test_identity_in_trailers(pair, origin):
    """Case 38: stripped, and somebody hears of it."""
    status, _, _ = None, None, None
    with pair.legacy() as s:
        status, _, _ = http(s, b"POST /tr HTTP/1.1\r\nHost: " + H + b"\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
                            b"Sallyport-Principal: evil\r\nClient-Cert: evil\r\nX-Fine: yes\r\n\r\n")
    assert status in (200, 400)
    for r in origin.requests:
        assert not [t for t in r.trailers if "evil" in t]
    wait("an alert", lambda: pair.a.journal("alert") or pair.b.journal("alert"))


def test_framing_fields_in_trailers(pair, origin):
    """RFC 9110 6.5.1: a trailer never frames, routes or authenticates."""
    with pair.legacy() as s:
        status, _, _ = http(s, b"POST /tr2 HTTP/1.1\r\nHost: " + H + b"\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
                            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: evil\r\nAuthorization: evil\r\n\r\n")
    assert status in (200, 400)
    for r in origin.requests:
        assert not [t for t in r.trailers if t.lower().startswith(("content-length", "transfer-encoding", "host"))]


def test_exchange_id_of_an_application(pair, origin):
    """Case 93: an id that a workload minted is ignored; ours goes to the service and the books."""
    evil = "01890a5d-ac96-774b-bcce-b302099a8057"
    for _ in range(2):
        pair.get("/minted", fields="Sallyport-Exchange: %s\r\nX-Request-Id: %s\r\n" % (evil, evil))
        assert origin.last().get("sallyport-exchange") != [evil]
    ids = wait("two exchanges", lambda: len(pair.a.exchanges(path="/minted")) == 2 and {r["exchange"] for r in pair.a.exchanges(path="/minted")})
    assert len(ids) == 2 and evil not in ids


def test_the_control_authority_is_refused(pair, origin):
    """Case 86: no application reaches what gateways ask of each other, however it names it; an alert each time."""
    before = len(pair.a.journal("alert")) + len(pair.a.journal("deny")) + len(pair.a.journal("refused"))
    for host in ("control.sallyport.invalid", "CONTROL.sallyport.invalid:443", "control.sallyport.invalid.", "control.sallyport.invalid:80"):
        status, _, _ = pair.get("/", host=host)
        assert status in (400, 403, 404, 421), host
        with pair.legacy() as s:
            assert http(s, ("CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (host, host)).encode())[0] in (400, 403, 404, 421)
        with pair.legacy() as s:
            assert http(s, ("GET http://%s/hello HTTP/1.1\r\nHost: %s\r\n\r\n" % (host, host)).encode())[0] in (400, 403, 404, 421)
    after = wait("records", lambda: len(pair.a.journal("alert")) + len(pair.a.journal("deny")) + len(pair.a.journal("refused")))
    assert after > before and not origin.requests


SPLIT = {
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "both lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare CR": b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "NUL": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    "fold": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "space before colon": b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    "no HTTP": b"HELLO\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "status 999": b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n",
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nfree bytes",
    "unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nxxx",
}


@pytest.mark.parametrize("name", SPLIT)
def test_bad_answer_of_a_service(pair, origin, name):
    """Case 39: an answer that can be read in two ways becomes a 502 and the service's connection is not used again."""
    origin.answers["/split"] = SPLIT[name]
    status, _, body = pair.get("/split")
    assert status == 502, (name, status, body)
    assert pair.get("/after-split")[0] == 200


def test_extra_octets_after_an_answer(pair, origin):
    """Case 39: a second answer that nobody asked for goes to nobody."""
    origin.answers["/extra"] = (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                                b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    with pair.legacy() as s:
        assert http(s, b"GET /extra HTTP/1.1\r\nHost: " + H + b"\r\n\r\n")[2] == b"ok"
        time.sleep(0.1)
        assert http(s, b"GET /next HTTP/1.1\r\nHost: " + H + b"\r\n\r\n")[2] == b"echo:"


def test_flood_of_interim_answers(pair, origin):
    """Case 40: 1xx without end is capped: 502."""
    def flood(c, r):
        try:
            for _ in range(2000):
                c.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except OSError:
            pass
        return False
    origin.answers["/1xx"] = flood
    with pair.legacy() as s:
        s.sendall(b"GET /1xx HTTP/1.1\r\nHost: " + H + b"\r\nConnection: close\r\n\r\n")
        got = recv_all(s, 10)
    assert b"HTTP/1.1 502" in got and got.count(b"HTTP/1.1 1") <= 200


def test_early_hints_pass(pair, origin):
    """An ordinary interim answer is either passed on or dropped; the final one comes."""
    origin.answers["/103"] = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with pair.legacy() as s:
        s.sendall(b"GET /103 HTTP/1.1\r\nHost: " + H + b"\r\nConnection: close\r\n\r\n")
        got = recv_all(s)
    assert b"HTTP/1.1 200" in got and got.endswith(b"ok")


def test_head_too_large(pair, origin):
    for data in (b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: " + H + b"\r\n\r\n",
                 b"GET / HTTP/1.1\r\nHost: " + H + b"\r\nX: " + b"a" * 100000 + b"\r\n\r\n",
                 b"GET / HTTP/1.1\r\nHost: " + H + b"\r\n" + b"X: a\r\n" * 5000 + b"\r\n"):
        refused(pair, origin, data, (400, 414, 431, 0))


@pytest.mark.limit(90)
def test_slow_head(make_pair, world, services):
    """Case 18: a head that does not come in time gets 408, or the connection is closed."""
    p = make_pair(a={"limits": {"head_timeout": "1s"}})
    with p.legacy() as s:
        s.sendall(b"GET / HTTP/1.1\r\nHo")
        began = time.monotonic()
        try:
            got = recv_all(s, 10)
        except ConnectionResetError:
            got = b""
        assert time.monotonic() - began < 4 * SLOW
        assert not got or b" 408 " in got


def test_one_octet_at_a_time(pair, origin):
    """The same request, however it is cut."""
    data = b"POST /octets HTTP/1.1\r\nHost: " + H + b"\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    with pair.legacy() as s:
        for i in range(len(data)):
            s.sendall(data[i:i + 1])
        s.settimeout(5)
        assert http_read(s)[2] == b"echo:abc"


def test_the_gateways_are_well(pair, origin):
    """After all this: no process was lost, the books are sound."""
    assert pair.get("/well")[0] == 200
    for g in (pair.a, pair.b):
        assert not [r for r in g.journal("role") if "died" in r["line"] or "killed" in r["line"]]
        g.verify()
