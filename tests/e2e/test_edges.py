# SPDX-License-Identifier: Apache-2.0
"""Where an exchange, a connection or a body ends, and who is slow: nothing is cut, mixed up or kept waiting."""
import socket
import time

from bed.domains import ECHO_HOST, TAX_HOST
from bed.gateway import SLOW, http, http_read, recv_all, wait

HOST = ECHO_HOST.encode()


def test_denied_head_has_no_content(pair, origin):
    """A refusal of a HEAD, by A or by B alone, has no content: the next answer on the connection is the next request's."""
    with pair.legacy() as s:
        s.settimeout(5)
        for path in (b"/admin/x", b"/nothing/x"):  # B denies the first, A the second
            s.sendall(b"HEAD " + path + b" HTTP/1.1\r\nHost: " + TAX_HOST.encode() + b"\r\n\r\n")
            status, _, body = http_read(s, head_only=True)
            assert (status, body) == (403, b""), path
        assert http(s, b"GET /next HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n")[2] == b"echo:"


def test_slow_caller_gets_all_of_a_last_answer(pair, origin):
    """The answer ends the connection, and the caller takes it slowly: all of it arrives."""
    size = 3 << 20
    origin.answers["/last"] = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"z" * size
    s = pair.world.hud.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    s.bind(("10.1.0.7", 0))
    s.connect(("10.1.0.10", 80))
    with s:
        s.sendall(b"GET /last HTTP/1.1\r\nHost: " + HOST + b"\r\nConnection: close\r\n\r\n")
        time.sleep(3.5)  # longer than a connection lingers
        got = recv_all(s, 20)
    assert len(got.partition(b"\r\n\r\n")[2]) == size


def test_slow_caller_gets_the_end_of_an_answer(pair, origin):
    """Its queue is full when the last octets of the answer come: the end is seen, and the next request is answered."""
    size = 3 << 20
    origin.answers["/full"] = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"z" * size
    s = pair.world.hud.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    s.bind(("10.1.0.7", 0))
    s.connect(("10.1.0.10", 80))
    with s:
        for _ in range(2):
            s.sendall(b"GET /full HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n")
            time.sleep(0.5)
            status, _, body = http(s, b"", timeout=20)
            assert (status, len(body)) == (200, size)
        assert http(s, b"GET /next HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n")[2] == b"echo:"


def test_upload_longer_than_the_time_for_an_answer(make_pair, origin):
    """response_timeout runs from the end of the request, at both gateways."""
    p = make_pair(start=False)
    for g in (p.a, p.b):
        g.write(services=[dict(s, response_timeout="%ds" % SLOW) if s["name"] == "echo" else s for s in g.config["services"]])
    p.start()
    with p.legacy() as s:
        s.sendall(b"POST /long HTTP/1.1\r\nHost: " + HOST + b"\r\nContent-Length: 30\r\n\r\n")
        for _ in range(30):
            time.sleep(0.1 * SLOW)
            s.sendall(b"u")
        status, _, body = http_read(s)
    assert (status, body) == (200, b"echo:" + b"u" * 30)
    origin.answers["/never"] = lambda c, r: time.sleep(3 * SLOW) or False
    assert p.get("/never")[0] == 504


def test_host_spelled_in_another_way(pair, origin):
    """RFC 9112 3.2.2: the target's authority counts; a Host with the port that goes without saying is the same, and crosses as one."""
    for host in (HOST, HOST + b":80", HOST.upper()):
        with pair.legacy() as s:
            status, _, _ = http(s, b"GET http://" + HOST + b"/host HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
        assert status == 200, host
        assert origin.last().get("host") == [ECHO_HOST]


def test_no_interim_answer_for_http10(pair, origin):
    """RFC 9110 15.2."""
    origin.answers["/early-hints"] = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with pair.legacy() as s:
        s.sendall(b"GET /early-hints HTTP/1.0\r\nHost: " + HOST + b"\r\n\r\n")
        got = recv_all(s)
    assert b" 103 " not in got and got.split(b"\r\n")[0].endswith(b"200 OK") and got.endswith(b"\r\n\r\nok")
    with pair.legacy() as s:
        s.sendall(b"GET /early-hints HTTP/1.1\r\nHost: " + HOST + b"\r\nConnection: close\r\n\r\n")
        assert recv_all(s).startswith(b"HTTP/1.1 103 ")


def test_answer_before_the_end_of_the_request(pair, origin):
    """The caller is told that the connection ends, and both books agree though each saw another part of the request."""
    def early(c, r):
        c.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n")
        return False
    early.early = True
    origin.answers["/too-much"] = early
    with pair.legacy() as s:
        s.sendall(b"POST /too-much HTTP/1.1\r\nHost: " + HOST + b"\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 200000)
        status, _, body = http_read(s)
    assert (status, body) == (413, b"no\n")
    a = pair.a.exchange(path="/too-much")
    assert a["reason"] == "answered-early" and a["status"] == "413"
    pair.b.exchange(path="/too-much")
    assert pair.reconcile(check=False).returncode == 0
    with pair.legacy("10.1.0.8") as s:
        s.sendall(b"POST /denied HTTP/1.1\r\nHost: " + HOST + b"\r\nContent-Length: 10\r\n\r\n")
        status, head, _ = http_read(s)
        assert status == 403 and b"connection: close" in head.lower()


def test_stopped_gateway_records_the_ends(make_pair, origin):
    """What still runs when a gateway is stopped has an end in its book, and it says why."""
    p = make_pair()
    origin.answers["/held"] = lambda c, r: time.sleep(5) or False
    with p.legacy() as s:
        s.sendall(b"GET /held HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n")
        wait("it is under way", lambda: any(r.line.startswith("GET /held") for r in origin.requests))
        p.a.stop()
    assert p.a.exchanges(path="/held")[-1]["reason"] == "stopped"
