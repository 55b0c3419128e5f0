# SPDX-License-Identifier: Apache-2.0
"""Callers of every kind, well-behaved and not. Each counts what it did and notes what no gateway may ever do."""
import random
import socket
import ssl
import threading
import time

import h2.exceptions

from origin import Gone, Reader, rst

HOST = b"origin.irs.svc"
LOCAL = b"local.hud.svc"
DB = b"db.irs.svc:5432"
GOOD = ("ok", "ok", "ok", "chunked", "big/300000", "slow", "eof", "stale", "interim", "drip")
BAD = ("close", "reset", "half", "longer", "shorter", "flood", "garbage", "split", "early", "noread")
FORGED = b"X-Forwarded-For: forged\r\nclient_cert: forged\r\nSallyport-Principal: forged\r\nForwarded: for=forged\r\n"


class Cut(Exception):
    """The connection ended in the middle of an answer."""


class Answer:
    def __init__(self, r, method, interim=()):
        while True:
            try:
                head = r.until(b"\r\n\r\n").decode("latin-1")
            except Gone:
                if r.data:
                    raise Cut
                raise
            lines = head.split("\r\n")
            self.status = int(lines[0].split(" ")[1])
            self.fields = dict((n.lower(), v.strip()) for n, v in (l.split(":", 1) for l in lines[1:]))
            self.trailers = []
            if self.status // 100 != 1:
                break
        self.body = b""
        try:
            self._body(r, method)
        except Gone:
            raise Cut

    def _body(self, r, method):
        if method == "HEAD" or self.status in (204, 304):
            return
        if "transfer-encoding" in self.fields:
            while True:
                n = int(r.until(b"\r\n"), 16)
                if not n:
                    break
                self.body += r.take(n)
                if r.take(2) != b"\r\n":
                    raise ValueError("chunk without its end")
            while True:
                t = r.until(b"\r\n")
                if not t:
                    return
                self.trailers.append(t.decode("latin-1"))
        elif "content-length" in self.fields:
            self.body = r.take(int(self.fields["content-length"]))
        else:
            try:
                while True:
                    r.more()
            except Gone:
                self.body, r.data = r.data, b""


class Caller:
    def __init__(self, bed, number, seed):
        self.bed, self.number = bed, number
        self.rnd = random.Random("%d/%d" % (seed, number))
        self.count, self.done, self.good, self.faults = 0, 0, 0, []
        self.by = {}
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        kinds = [(getattr(self, n), w) for n, w in (
            ("keep_alive", 10), ("pipeline", 4), ("post", 8), ("post_abort", 5), ("read_abort", 5), ("slow_reader", 2), ("misshapen", 3),
            ("tunnel", 5), ("raw_tcp", 4), ("tls", 2), ("h2", 4), ("sidecar", 4), ("half_close", 3), ("expect", 2), ("denied", 2))]
        while not self.stop.is_set():
            kind = self.rnd.choices([k for k, _ in kinds], [w for _, w in kinds])[0]
            try:
                kind()
            except (OSError, Gone, Cut, ssl.SSLError):
                pass
            except Exception as e:  # what we got could not be read
                self.fault("%s: %s: %s" % (kind.__name__, type(e).__name__, e))
            self.by[kind.__name__] = self.by.get(kind.__name__, 0) + 1

    def fault(self, text):
        self.faults.append("caller %d: %s" % (self.number, text))

    def next_id(self):
        self.count += 1
        return "%d.%d" % (self.number, self.count)

    def connect(self, to=None):
        s = self.bed.connect(to or self.bed.legacy, source=self.bed.client)
        s.settimeout(20)
        return s

    def head(self, method, kind, xid, extra=b"", host=None, version=b"1.1"):
        host = host or (LOCAL if self.rnd.random() < 0.2 else HOST)
        if self.rnd.random() < 0.2:
            extra += FORGED
        return b"%s /%s HTTP/%s\r\nHost: %s\r\nX-Id: %s\r\n%s\r\n" % (method.encode(), kind.encode(), version, host, xid.encode(), extra)

    def check(self, a, xid, kind, method="GET", sent=0):
        self.done += 1
        if a.status == 200 and a.fields.get("x-id") != xid:
            self.fault("%s was answered with what was for %s" % (xid, a.fields.get("x-id")))
        for n, v in a.fields.items():
            if v == "forged" or n.startswith("sallyport-"):
                self.fault("%s: %s in an answer" % (n, v))
        if any("forged" in t for t in a.trailers):
            self.fault("identity in an answer's trailers: %r" % a.trailers)
        if a.status != 200:
            if a.status not in (403, 408, 413, 429, 502, 503, 504):
                self.fault("%s %s: status %d" % (xid, kind, a.status))
            return
        self.good += 1
        base = kind.split("/")[0]
        if base in ("ok", "slow", "stale", "interim") and method != "HEAD" and not a.body.startswith(("%s %s %d" % (method, xid, sent)).encode()):
            self.fault("%s %s: body %r" % (xid, kind, a.body[:80]))
        if base == "big" and len(a.body) != int(kind.split("/")[1]):
            self.fault("%s %s: %d octets" % (xid, kind, len(a.body)))
        if base == "eof" and a.body != b"until the end":
            self.fault("%s %s: %r" % (xid, kind, a.body[:80]))
        if base in ("half", "shorter"):
            self.fault("%s %s: a cut answer came whole" % (xid, kind))

    def kind(self):
        return self.rnd.choice(GOOD if self.rnd.random() < 0.8 else BAD)

    # ---- what they do
    def keep_alive(self):
        with self.connect() as s:
            r = Reader(s)
            for _ in range(self.rnd.randrange(1, 12)):
                xid, kind = self.next_id(), self.kind()
                method = "HEAD" if self.rnd.random() < 0.1 and kind in ("ok", "slow", "stale") else "GET"
                s.sendall(self.head(method, kind, xid))
                a = Answer(r, method)
                self.check(a, xid, kind, method)
                if a.fields.get("connection") == "close":
                    return

    def pipeline(self, s=None, shut=False):
        """Requests one behind the other, in pieces; answers in their order."""
        with s or self.connect() as s:
            ask = [(self.next_id(), self.rnd.choice(("ok", "ok", "slow", "chunked", "big/70000")), self.rnd.randrange(3)) for _ in range(self.rnd.randrange(2, 9))]
            data = b""
            for xid, kind, n in ask:
                if n:
                    data += self.head("POST", kind, xid, b"Content-Length: %d\r\n" % (n * 700)) + b"p" * n * 700
                else:
                    data += self.head("GET", kind, xid)
            while data:
                n = self.rnd.choice((1, 100, 1000, 100000))
                s.sendall(data[:n])
                data = data[n:]
                if self.rnd.random() < 0.2:
                    time.sleep(0.002)
            if shut:
                s.shutdown(socket.SHUT_WR)
            r = Reader(s)
            for xid, kind, n in ask:
                a = Answer(r, "POST" if n else "GET")
                self.check(a, xid, kind, "POST" if n else "GET", n * 700)
                if a.fields.get("connection") == "close":
                    return
            if shut and s.recv(1):
                self.fault("octets after the last answer")

    def half_close(self):
        self.pipeline(shut=True)

    def body(self, n, chunked):
        """(octets, length) in pieces."""
        while n:
            k = min(n, self.rnd.choice((1, 100, 5000, 60000)))
            piece = b"b" * k
            yield b"%x\r\n%s\r\n" % (k, piece) if chunked else piece
            n -= k

    def post(self):
        with self.connect() as s:
            r = Reader(s)
            for _ in range(self.rnd.randrange(1, 4)):
                xid, kind = self.next_id(), self.kind()
                n, chunked = self.rnd.choice((0, 1, 3000, 90000, 400000)), self.rnd.random() < 0.5
                s.sendall(self.head("POST", kind, xid, b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: %d\r\n" % n))
                for p in self.body(n, chunked):
                    s.sendall(p)
                    if self.rnd.random() < 0.1:
                        time.sleep(self.rnd.random() * 0.02)
                if chunked:
                    s.sendall(b"0\r\n" + (b"X-Sum: 1\r\nX-Forwarded-For: forged\r\n" if self.rnd.random() < 0.5 else b"") + b"\r\n")
                a = Answer(r, "POST")
                self.check(a, xid, kind, "POST", n)
                if a.fields.get("connection") == "close":
                    return

    def post_abort(self):
        s = self.connect()
        n, chunked = self.rnd.choice((10, 5000, 300000)), self.rnd.random() < 0.5
        s.sendall(self.head("POST", self.kind(), self.next_id(), b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: %d\r\n" % n))
        left = self.rnd.randrange(n)
        for p in self.body(left, chunked):
            s.sendall(p)
        time.sleep(self.rnd.choice((0, 0, 0.005, 0.05)))
        (rst if self.rnd.random() < 0.5 else socket.socket.close)(s)

    def read_abort(self):
        s = self.connect()
        s.sendall(self.head("GET", self.rnd.choice(("big/2000000", "chunked", "slow", "drip", "noread", "ok")), self.next_id()))
        if self.rnd.random() < 0.6:
            s.recv(self.rnd.choice((1, 1000, 100000)))
        (rst if self.rnd.random() < 0.5 else socket.socket.close)(s)

    def slow_reader(self):
        with self.connect() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            xid, kind = self.next_id(), "big/%d" % self.rnd.choice((600000, 1500000, 4000000))
            close = self.rnd.random() < 0.5
            s.sendall(self.head("GET", kind, xid, b"Connection: close\r\n" if close else b""))
            if close and self.rnd.random() < 0.5:
                s.shutdown(socket.SHUT_WR)
            time.sleep(self.rnd.random())
            self.check(Answer(Reader(s), "GET"), xid, kind)

    def misshapen(self):
        bad = self.rnd.choice((
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET /../x HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01",
            b"POST /ok HTTP/1.1\r\nHost: " + HOST + b"\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST /ok HTTP/1.1\r\nHost: " + HOST + b"\r\nX-Id: 0\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
            b"POST /ok HTTP/1.1\r\nHost: " + HOST + b"\r\nX-Id: 0\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"GET /ok HTTP/1.1\r\nHost: unknown.example\r\n\r\n", b"GET /ok HTTP/1.1\r\n" + b"A: b\r\n" * 120 + b"\r\n",
            b"GET /ok HTTP/1.1\r\nHost: " + HOST + b"\r\nX: " + b"y" * 31000 + b"\r\n\r\n", b"CONNECT " + HOST + b":80 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"CONNECT " + DB + b" HTTP/1.1\r\nHost: " + DB + b"\r\n\r\nearly", b"GET http://control.sallyport.invalid/hello HTTP/1.1\r\nHost: control.sallyport.invalid\r\n\r\n"))
        with self.connect() as s:
            s.sendall(bad[:self.rnd.randrange(len(bad) + 1)] if self.rnd.random() < 0.3 else bad)
            if self.rnd.random() < 0.7:
                s.shutdown(socket.SHUT_WR)
            s.settimeout(0.5)
            while s.recv(65536):
                pass

    # ---- tunnels
    def stream(self, s, r=None):
        """What is sent comes back, however it is cut."""
        sent, got, n = 0, len(r.data) if r else 0, self.rnd.choice((0, 10, 3000, 200000, 700000))
        end = self.rnd.random()

        def send():
            nonlocal sent
            try:
                while sent < n:
                    k = min(n - sent, self.rnd.choice((1, 1000, 50000)))
                    s.sendall(b"t" * k)
                    sent += k
                if end < 0.7:
                    s.shutdown(socket.SHUT_WR)
                elif end < 0.85:
                    rst(s)
            except OSError:
                pass
        t = threading.Thread(target=send, daemon=True)
        t.start()
        try:
            s.settimeout(5)
            while end < 0.85 or got < sent:
                d = s.recv(65536)
                if not d:
                    break
                got += len(d)
        finally:
            t.join(5)
        self.done += 1
        if got > sent:
            self.fault("a tunnel gave %d for %d" % (got, sent))
        self.good += got == sent

    def tunnel(self):
        with self.connect() as s:
            s.sendall(b"CONNECT " + DB + b" HTTP/1.1\r\nHost: " + DB + b"\r\n\r\n")
            r = Reader(s)
            head = r.until(b"\r\n\r\n")
            if head.startswith(b"HTTP/1.1 200"):
                self.stream(s, r)

    def raw_tcp(self):
        with self.connect(self.bed.ledger) as s:
            self.stream(s)

    # ---- with certificates
    def tls(self):
        with self.bed.tls(self.connect(self.bed.inside), ["http/1.1"]) as s:
            r = Reader(s)
            for _ in range(self.rnd.randrange(1, 6)):
                xid, kind = self.next_id(), self.kind()
                s.sendall(self.head("GET", kind, xid, host=HOST))
                a = Answer(r, "GET")
                self.check(a, xid, kind)
                if a.fields.get("connection") == "close":
                    return

    def h2(self):
        from bed.tls import H2
        with self.bed.tls(self.connect(self.bed.inside), ["h2"]) as s:
            c = H2(s, raw=False)
            want = {}
            for _ in range(self.rnd.randrange(1, 20)):
                xid, kind = self.next_id(), self.kind()
                body = self.rnd.choice((None, b"", b"b" * 100, b"b" * 2500))  # all of them within the first window
                method = "GET" if body is None else "POST"
                sid = c.request([(":method", method), (":scheme", "https"), (":authority", HOST.decode()), (":path", "/" + kind),
                                 ("x-id", xid), ("cookie", "a=1"), ("cookie", "b=2")], body, end=self.rnd.random() < 0.9)
                want[sid] = xid, kind, method, len(body or b"")
                if self.rnd.random() < 0.2:
                    c.c.reset_stream(sid, 8)
                    c.flush()
                    c.streams[sid]["ended"] = True
                    want.pop(sid)
            try:
                c.pump(lambda: all(c.streams[i]["ended"] for i in want), 6)
            except AssertionError:
                return  # some never end: their requests did not
            except h2.exceptions.ProtocolError as e:
                if "CLOSED" not in str(e):
                    raise
                return  # after a GOAWAY the library reads no more, though streams that run go on
            for sid, (xid, kind, method, n) in want.items():
                a = c.streams[sid]
                if a["status"] == 200 and dict(a["fields"]).get("x-id") != xid:
                    self.fault("h2 %s was answered with what was for %r" % (xid, a["fields"]))
                if a["ended"] and a["reset"] is None and kind == "ok" and a["status"] == 200:
                    self.good += 1
                    if not a["body"].startswith(("%s %s %d" % (method, xid, n)).encode()):
                        self.fault("h2 %s: body %r" % (xid, a["body"][:80]))
                self.done += 1

    def sidecar(self):
        s = self.connect(self.bed.sidecar)
        self.rnd.choice((self.pipeline, self.sidecar_tunnel))(s)

    def sidecar_tunnel(self, s):
        with s:
            s.sendall(b"CONNECT " + DB + b" HTTP/1.1\r\nHost: " + DB + b"\r\n\r\n")
            r = Reader(s)
            if r.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200"):
                self.stream(s, r)

    # ---- the rest
    def expect(self):
        with self.connect() as s:
            r = Reader(s)
            xid, kind = self.next_id(), self.rnd.choice(("ok", "ok", "early"))
            s.sendall(self.head("POST", kind, xid, b"Content-Length: 5000\r\nExpect: 100-continue\r\n"))
            s.settimeout(8)
            head = r.until(b"\r\n\r\n")
            if b" 100 " in head.split(b"\r\n")[0]:
                s.sendall(b"e" * 5000)
            else:
                r.data = head + b"\r\n\r\n" + r.data
            a = Answer(r, "POST")
            self.check(a, xid, kind, "POST", 5000)

    def denied(self):
        """A refusal to a HEAD has no content, and the next answer on the connection is the next one's."""
        with self.connect() as s:
            r = Reader(s)
            s.sendall(b"HEAD /denied HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n")
            a = Answer(r, "HEAD")
            if a.status != 403:
                self.fault("denied: status %d" % a.status)
            xid = self.next_id()
            s.sendall(self.head("GET", "ok", xid, host=HOST))
            self.check(Answer(r, "GET"), xid, "ok")
