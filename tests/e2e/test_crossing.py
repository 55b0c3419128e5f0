# SPDX-License-Identifier: Apache-2.0
"""A call crosses: every way in, both bodies, and what each side sees and writes down of it."""
import re
import socket
import ssl
import threading
import time

import pytest

from bed.domains import APP, COBOL, DB_HOST, ECHO_HOST, PERMIT, PERMIT_UID, TAX_HOST
from bed.gateway import SLOW, curl, http, http_read, recv_all, reset, wait

LEGACY = ["--interface", "10.1.0.7", "--connect-to", "::10.1.0.10:80"]


def mtls(pair, cert=None):
    cert = cert or pair.app
    return ["--cert", cert.crt, "--key", cert.keyfile, "--cacert", pair.hud.ca.bundle, "--connect-to", "::10.1.0.10:443"]


def test_get_by_address_mapping(pair, world, nginx):
    """curl to nginx over both gateways; nothing but TCP 443 in one direction passes the firewall, and none of it readable."""
    dropped = world.counter("dropped")
    cap = world.capture()
    code, body, err = curl(world.hud, *LEGACY, "http://%s/v1/taxes/7?year=2026" % TAX_HOST)
    cap.stop()
    assert (code, body) == (200, b"nginx GET /v1/taxes/7?year=2026\n"), err
    a = pair.a.exchange(path="/v1/taxes/7")
    b = pair.b.exchange(path="/v1/taxes/7")
    assert a["exchange"] == b["exchange"] and a["attempt"] == b["attempt"]
    assert (a["verdict"], a["principal"], a["assurance"], a["service"], a["rule"]) == ("allow", COBOL, "address", "tax-svc", "hud-calls-tax")
    assert (b["verdict"], b["principal"], b["assurance"], b["service"], b["rule"]) == ("allow", COBOL, "address", "tax-svc", "tax-for-hud")
    assert a["direction"] == "out" and b["direction"] == "in" and b["endpoint"] == "10.2.0.30:8080"
    assert a["status"] == b["status"] == "200" and a["method"] == "GET" and a["bytes_out"] == str(len(body))
    assert re.search(r"10-test\.conf:\d+$", a["rule_at"]) and a["client"].startswith("10.1.0.7") and a["listener"] == "legacy"
    assert a["peer"] == "irs" and b["peer"] == "hud"
    up = [r for r in pair.a.journal("link-up", link=a["link"]) if r["worker"] == a["worker"]]
    assert up[-1]["gateway"] == pair.irs.gateway_id
    assert re.match(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab]", a["exchange"])  # UUIDv7
    for proto, src, sport, dst, dport, syn in cap.flows():
        assert proto == 6 and 443 in (sport, dport) and {src, dst} == {world.HUD, world.IRS}
        assert not syn or (src, dport) == (world.HUD, 443)
    assert not cap.contains(b"taxes")
    assert world.counter("dropped") == dropped


def test_only_443_ever(pair, world):
    """Since the pair started, the firewall has had nothing to drop: neither gateway tried another port or direction."""
    assert world.counter("dropped") == 0 and world.counter("passed") > 0


def test_get_over_mtls(pair, world, nginx):
    """An application with a certificate of its domain on the inside listener; its certificate is verified again by B."""
    code, body, err = curl(world.hud, *mtls(pair), "https://%s/v1/mtls" % TAX_HOST)
    assert (code, body) == (200, b"nginx GET /v1/mtls\n"), err
    a, b = pair.a.exchange(path="/v1/mtls"), pair.b.exchange(path="/v1/mtls")
    assert a["principal"] == b["principal"] == APP and a["assurance"] == b["assurance"] == "mtls"
    assert a["cert"] and b["cert"]


def test_get_over_unix_socket(pair, world, nginx):
    """The kernel says who is at the other end of a Unix socket."""
    code, body, err = curl(world.hud, "--unix-socket", pair.apps, "http://%s/v1/uid" % TAX_HOST, user=PERMIT_UID)
    assert (code, body) == (200, b"nginx GET /v1/uid\n"), err
    a, b = pair.a.exchange(path="/v1/uid"), pair.b.exchange(path="/v1/uid")
    assert a["principal"] == b["principal"] == PERMIT and a["assurance"] == b["assurance"] == "uid"


def test_unix_socket_of_nobody(pair, world):
    """A user that is not mapped has no principal, and no rule names nobody."""
    code, body, _ = curl(world.hud, "--unix-socket", pair.apps, "http://%s/v1/nobody" % TAX_HOST, user=23456)
    assert code == 403 and b"hud-calls" not in body
    assert pair.a.record("deny", path="/v1/nobody").get("assurance", "none") == "none"
    assert not pair.b.journal(path="/v1/nobody")


def test_absolute_form(pair, origin):
    """RFC 9112 3.2.2: the target's host counts, and the service gets origin form."""
    with pair.legacy() as s:
        status, _, body = http(s, ("GET http://%s/abs?x=1 HTTP/1.1\r\nHost: %s\r\n\r\n" % (ECHO_HOST, ECHO_HOST)).encode())
    assert (status, body) == (200, b"echo:")
    assert origin.last().line == "GET /abs?x=1 HTTP/1.1"
    assert origin.last().get("host") == [ECHO_HOST]


def test_post_with_length(pair, origin):
    body = bytes(range(256)) * 1000
    status, _, got = pair.get("/post", method="POST", body=body)
    assert (status, got) == (200, b"echo:" + body)
    assert origin.last().body == body
    a = pair.a.exchange(path="/post")
    assert (a["bytes_in"], a["bytes_out"]) == (str(len(body)), str(len(got)))


def test_chunked_request_with_trailers(pair, origin):
    with pair.legacy() as s:
        status, _, got = http(s, (
            "POST /chunks HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
            "5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nX-Sum: 42\r\n\r\n" % ECHO_HOST).encode())
    assert (status, got) == (200, b"echo:hello world")
    assert origin.last().body == b"hello world"
    assert [t.lower().replace(" ", "") for t in origin.last().trailers] in ([], ["x-sum:42"])
    assert origin.last().trailers, "trailers of a request cross"


def test_chunked_answer_with_trailers(pair, origin):
    def answer(c, r):
        c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n3\r\nabc\r\n")
        time.sleep(0.05)
        c.sendall(b"4\r\ndefg\r\n0\r\nX-End: yes\r\n\r\n")
    origin.answers["/chunked"] = answer
    with pair.legacy() as s:
        s.sendall(("GET /chunked HTTP/1.1\r\nHost: %s\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n" % ECHO_HOST).encode())
        got = recv_all(s)
    head, _, body = got.partition(b"\r\n\r\n")
    assert b"200" in head.split(b"\r\n")[0] and b"transfer-encoding: chunked" in head.lower()
    data, rest = b"", body
    while True:
        size, _, rest = rest.partition(b"\r\n")
        n = int(size, 16)
        if not n:
            break
        data, rest = data + rest[:n], rest[n + 2:]
    assert data == b"abcdefg"
    assert rest.lower().replace(b" ", b"") == b"x-end:yes\r\n\r\n"


def test_answer_that_ends_with_the_connection(pair, origin):
    """RFC 9112 6.3: no length from an HTTP/1.0-like service; the caller gets a framed one."""
    def answer(c, r):
        c.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end")
        c.shutdown(socket.SHUT_WR)
        return False
    origin.answers["/eof"] = answer
    status, head, body = pair.get("/eof")
    assert status == 200 and b"until the end" in body


def test_expect_100_continue(pair, origin):
    with pair.legacy() as s:
        s.settimeout(5)
        s.sendall(("POST /expect HTTP/1.1\r\nHost: %s\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n" % ECHO_HOST).encode())
        interim = s.recv(4096)
        assert interim.startswith(b"HTTP/1.1 100 ") and interim.endswith(b"\r\n\r\n")
        status, _, body = http(s, b"body")
    assert (status, body) == (200, b"echo:body")


def test_expect_100_continue_denied(pair, origin):
    """A denied request never gets a 100, so its body is never sent."""
    with pair.legacy("10.1.0.8") as s:
        status, _, _ = http(s, ("POST /expect-no HTTP/1.1\r\nHost: %s\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n" % ECHO_HOST).encode())
    assert status == 403


def test_head(pair, origin):
    with pair.legacy() as s:
        s.settimeout(5)
        s.sendall(("HEAD /head HTTP/1.1\r\nHost: %s\r\n\r\n" % ECHO_HOST).encode())
        status, head, body = http_read(s, head_only=True)
        assert status == 200 and b"content-length: 5" in head.lower() and body == b""
        status, _, body = http(s, ("GET /after-head HTTP/1.1\r\nHost: %s\r\n\r\n" % ECHO_HOST).encode())
        assert (status, body) == (200, b"echo:")


def test_no_content_and_not_modified(pair, origin):
    """RFC 9112 6.3: no body, whatever the fields say; the connection stays usable."""
    origin.answers["/204"] = b"HTTP/1.1 204 No Content\r\n\r\n"
    origin.answers["/304"] = b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"
    with pair.legacy() as s:
        s.settimeout(5)
        for path in (b"204", b"304"):
            s.sendall(b"GET /" + path + b" HTTP/1.1\r\nHost: " + ECHO_HOST.encode() + b"\r\n\r\n")
            status, head, body = http_read(s, head_only=True)
            assert (status, body) == (int(path), b"")
        assert http(s, ("GET /x HTTP/1.1\r\nHost: %s\r\n\r\n" % ECHO_HOST).encode())[2] == b"echo:"


def test_keep_alive(pair, origin):
    """Many requests of one connection, and one connection of B to the service for them."""
    with pair.legacy() as s:
        for i in range(50):
            status, _, body = http(s, ("GET /ka/%d HTTP/1.1\r\nHost: %s\r\n\r\n" % (i, ECHO_HOST)).encode())
            assert (status, body) == (200, b"echo:")
    assert [r.line.split()[1] for r in origin.requests] == ["/ka/%d" % i for i in range(50)]


def test_connection_close(pair, origin):
    with pair.legacy() as s:
        s.sendall(("GET /close HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % ECHO_HOST).encode())
        got = recv_all(s)
    assert got.endswith(b"echo:") and b"connection: close" in got.lower()


def test_http_1_0(pair, origin):
    with pair.legacy() as s:
        s.sendall(("GET /old HTTP/1.0\r\nHost: %s\r\n\r\n" % ECHO_HOST).encode())
        got = recv_all(s)
    assert b" 200 " in got.split(b"\r\n")[0] and got.endswith(b"echo:")


def test_pipelining(pair, origin):
    """Answers come in the order of the requests, though the first is the slowest."""
    def slow(c, r):
        time.sleep(0.3)
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")
    origin.answers["/p0"] = slow
    with pair.legacy() as s:
        s.sendall(b"".join(("GET /p%d HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (i, ECHO_HOST, "Connection: close\r\n" if i == 4 else "")).encode()
                           for i in range(5)))
        got = recv_all(s, 10)
    assert got.count(b"HTTP/1.1 200") == 5
    assert got.index(b"slow") < got.index(b"echo:") and got.count(b"echo:") == 4


@pytest.mark.limit(120)
def test_big_bodies_in_constant_memory(pair, world, nginx):
    """128 MiB down and up; no worker grows by more than a few windows."""
    before = pair.a.rss(), pair.b.rss()
    peak = [0, 0]
    done = threading.Event()

    def watch():
        while not done.is_set():
            peak[0], peak[1] = max(peak[0], pair.a.rss()), max(peak[1], pair.b.rss())
            time.sleep(0.05)

    t = threading.Thread(target=watch)
    t.start()
    try:
        code, _, err = curl(world.hud, *LEGACY, "-o", "/dev/null", "http://%s/files/big.bin" % TAX_HOST, timeout=50)
        assert code == 200, err
        sent = world.hud.run("curl", "-sS", "-m", "100", "-T", nginx.folder + "/www/big.bin", *LEGACY, "-w", "%{http_code} %{size_upload}",
                             "-o", "/dev/null", "http://%s/put/up.bin" % TAX_HOST, timeout=110).stdout
    finally:
        done.set()
        t.join()
    a, b = pair.a.exchange(path="/files/big.bin"), pair.b.exchange(path="/files/big.bin")
    assert a["bytes_out"] == b["bytes_out"] == str(128 << 20), err
    assert sent.endswith(b" %d" % (128 << 20)), sent
    a = pair.a.exchange(path="/put/up.bin")
    assert a["bytes_in"] == str(128 << 20)
    if SLOW > 1:
        return  # a sanitizer keeps freed memory, to find who uses it
    for name, was, most in (("A", before[0], peak[0]), ("B", before[1], peak[1])):
        assert most - was < (48 << 20) * SLOW, "%s grew from %d to %d" % (name, was, most)


def test_slow_reader_holds_the_sender(pair, world, nginx):
    """Back pressure end to end: a client that does not read stops nginx, not the gateways' memory."""
    before = pair.a.rss() + pair.b.rss()
    socks = []
    for _ in range(8):
        s = pair.legacy()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.sendall(("GET /files/big.bin HTTP/1.1\r\nHost: %s\r\n\r\n" % TAX_HOST).encode())
        socks.append(s)
    time.sleep(1.5)
    grown = pair.a.rss() + pair.b.rss() - before
    for s in socks:
        reset(s)
    assert grown < (8 * 4 << 20) * SLOW + (16 << 20), grown
    assert pair.get("/after-slow")[0] == 200


def test_client_reset_reaches_the_service(pair, origin):
    """A caller that goes away in mid-answer: B drops the service's connection, both books say so."""
    gone = threading.Event()

    def endless(c, r):
        try:
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            while True:
                c.sendall(b"x" * 65536)
        except OSError:
            gone.set()
        return False
    origin.answers["/endless"] = endless
    s = pair.legacy()
    s.sendall(("GET /endless HTTP/1.1\r\nHost: %s\r\n\r\n" % ECHO_HOST).encode())
    s.recv(65536)
    reset(s)
    assert gone.wait(5 * SLOW)
    a, b = pair.a.exchange(path="/endless"), pair.b.exchange(path="/endless")
    assert a["exchange"] == b["exchange"]
    assert a["reason"] != "complete" and b["reason"] != "complete"


def test_service_that_dies_in_mid_answer(pair, origin):
    """A short answer is never passed off as a whole one."""
    def cut(c, r):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        reset(c)
        return False
    origin.answers["/cut"] = cut
    with pair.legacy() as s:
        s.sendall(("GET /cut HTTP/1.1\r\nHost: %s\r\n\r\n" % ECHO_HOST).encode())
        try:
            got = recv_all(s)
        except ConnectionResetError:
            got = b""
    assert not got or b"502" in got.split(b"\r\n")[0] or len(got.partition(b"\r\n\r\n")[2]) < 100
    assert pair.b.exchange(path="/cut")["reason"] != "complete"


def test_service_refuses(pair, world):
    """Nobody at the endpoint: 502 or 503, and a reason in both books."""
    p = pair
    old = p.b.config["services"]
    p.b.write(services=[dict(s, endpoints=["10.2.0.30:9"]) if s["name"] == "echo" else s for s in old])
    try:
        p.b.reload()
        # an old worker may still answer what was on its way to it
        wait("a refusal", lambda: p.get("/refused")[0] in (502, 503))
        wait("the reason in the book", lambda: [r for r in p.b.exchanges(path="/refused") if r["reason"] != "complete"])
    finally:
        p.b.write(services=old)
        p.b.reload()
    wait("the service again", lambda: p.get("/again")[0] == 200)


def test_connect_to_a_tcp_service(pair, echo):
    """CONNECT host:port of a service of kind tcp, and half-close both ways."""
    with pair.legacy() as s:
        s.settimeout(5)
        s.sendall(("CONNECT %s:5432 HTTP/1.1\r\nHost: %s:5432\r\n\r\n" % (DB_HOST, DB_HOST)).encode())
        status, head, rest = http_read(s, head_only=True)
        assert status == 200 and rest == b"" and b"content-length" not in head.lower()
        s.sendall(b"over the tunnel")
        assert s.recv(100) == b"over the tunnel"
        s.shutdown(socket.SHUT_WR)
        assert recv_all(s) == b"bye"
    a = pair.a.exchange(method="CONNECT", bytes_in=len("over the tunnel"))
    assert a["bytes_out"] == str(len("over the tunnelbye")) and a["service"] == "ledger-db"


def test_tcp_listener(pair, echo):
    """Raw bytes by listener; the service's answer comes after the caller has ended its half."""
    with pair.legacy(port=5432) as s:
        s.sendall(b"ledger bytes\0\xff")
        s.shutdown(socket.SHUT_WR)
        assert recv_all(s) == b"ledger bytes\0\xffbye"
    a, b = pair.a.exchange(listener="ledger"), pair.b.exchange(service="ledger-db", bytes_in="14")
    assert a["exchange"] == b["exchange"] and (a["bytes_in"], a["bytes_out"]) == ("14", "17")


def test_tcp_service_ends_first(pair, world, services):
    """Half-close the other way: the service has ended, the caller still sends."""
    from bed.servers import Server
    got = []

    def first(c):
        c.sendall(b"hello and goodbye")
        c.shutdown(socket.SHUT_WR)
        while True:
            d = c.recv(4096)
            if not d:
                return
            got.append(d)

    srv = Server(world.irs, ("10.2.0.31", 5432), first)
    old = pair.b.config["services"]
    pair.b.write(services=[dict(s, endpoints=["10.2.0.31:5432"]) if s["name"] == "ledger-db" else s for s in old])
    try:
        pair.b.reload()

        def greeted():
            try:
                with pair.legacy(port=5432) as s:
                    return recv_all(s) == b"hello and goodbye"
            except OSError:
                return False
        wait("the new endpoint", greeted)  # an old worker may still take what is on its way to it
        got.clear()
        with pair.legacy(port=5432) as s:
            assert recv_all(s) == b"hello and goodbye"
            s.sendall(b"still here")
            time.sleep(0.1)
            s.shutdown(socket.SHUT_WR)
            wait("the rest at the service", lambda: b"".join(got) == b"still here")
    finally:
        pair.b.write(services=old)
        pair.b.reload()

        def echoed():
            try:
                with pair.legacy(port=5432) as s:
                    s.sendall(b"back")
                    return s.recv(4) == b"back"
            except OSError:
                return False
        wait("the usual endpoint by every worker", lambda: all(echoed() for _ in range(12)))
        srv.stop()


def test_reset_is_carried_as_a_reset(pair, echo):
    """RFC 9113 8.5: RST in, RST out, both ways."""
    del echo.ends[:]
    s = pair.legacy(port=5432)
    s.sendall(b"abc")
    assert s.recv(10) == b"abc"
    reset(s)
    # Connections of the test before may end only now; none of those sent three octets.
    assert wait("the end at the service", lambda: [e for e in echo.ends if e[1] == 3]) == [("reset", 3)]
    s = pair.legacy(port=5432)
    s.sendall(b"abc")
    assert s.recv(10) == b"abc"
    with echo.lock:
        for c in list(echo.conns):
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            c.shutdown(socket.SHUT_RD)
    with pytest.raises(ConnectionResetError):  # the echo's thread has woken, and closes with RST by the linger option
        recv_all(s)
    s.close()


def test_fields_that_the_service_gets(pair, origin):
    """Ours are set: who, which exchange, and what RFC 7239 and RFC 9110 7.6.3 say of the way; hop-by-hop fields end here."""
    pair.get("/fields", fields="X-Mine: kept\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: trailers\r\n")
    r = origin.last()
    a = pair.a.exchange(path="/fields")
    assert r.get("sallyport-principal") == [COBOL] and r.get("sallyport-exchange") == [a["exchange"]]
    assert ", ".join(r.get("via")) == "1.1 dmz1.hud.example, 2.0 dmz1.irs.example" and len(r.get("forwarded")) == 1 and r.get("x-mine") == ["kept"]
    assert re.match(r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$", r.get("traceparent")[0])
    for name in ("x-hop", "keep-alive", "proxy-connection", "client-cert"):
        assert name not in r.names(), name
    assert r.get("host") == [ECHO_HOST]


def test_traceparent_is_passed_on(pair, origin):
    tp = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    pair.get("/trace", fields="traceparent: %s\r\ntracestate: a=b\r\n" % tp)
    assert origin.last().get("traceparent")[0].split("-")[1] == tp.split("-")[1]


def test_many_fields_and_long_values(pair, origin):
    fields = "".join("X-F%d: %s\r\n" % (i, "v" * 200) for i in range(60))
    status, _, _ = pair.get("/many", fields=fields)
    assert status == 200 and sum(n.startswith("x-f") for n in origin.last().names()) == 60


def test_concurrent_callers(pair, origin):
    """64 callers at once, each gets its own answer."""
    def echo_path(c, r):
        b = r.line.split(" ")[1].encode()
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(b), b))
    for i in range(64):
        for k in range(5):
            origin.answers["/c/%d/%d" % (i, k)] = echo_path
    bad = []

    def one(i):
        try:
            with pair.legacy() as s:
                for k in range(5):
                    path = "/c/%d/%d" % (i, k)
                    got = http(s, ("GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (path, ECHO_HOST)).encode(), 20)
                    if got[0] != 200 or got[2] != path.encode():
                        bad.append(got)
        except Exception as e:  # noqa: BLE001 - reported below
            bad.append(e)

    ts = [threading.Thread(target=one, args=(i,)) for i in range(64)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    assert not bad, bad[:3]


def test_http2_is_not_offered_to_applications_as_http1(pair, world):
    """The inside listener speaks what ALPN says; a client without ALPN gets HTTP/1.1."""
    ctx = ssl.create_default_context(cafile=pair.hud.ca.bundle)
    ctx.load_cert_chain(pair.app.crt, pair.app.keyfile)
    with ctx.wrap_socket(world.hud.connect(("10.1.0.10", 443)), server_hostname=ECHO_HOST) as s:
        assert s.version() == "TLSv1.3"
        s.sendall(("GET /noalpn HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % ECHO_HOST).encode())
        assert b" 200 " in s.recv(4096).split(b"\r\n")[0]


def test_ipv6_between_the_gateways(make_pair, world, origin):
    p = make_pair(b={"listeners": [{"name": "tunnel", "address": "[%s]:443" % world.IRS6, "accept": ["peers"]}]},
                  peer_a={"dial": ["[%s]:443" % world.IRS6]})
    assert p.get("/six")[0] == 200


def test_books_balance(pair):
    """Everything above, joined by (id, attempt): nothing is in one book only."""
    time.sleep(0.5)
    pair.a.verify()
    pair.b.verify()
    out = pair.reconcile()
    assert out.returncode == 0
