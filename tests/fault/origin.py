# SPDX-License-Identifier: Apache-2.0
"""A service that misbehaves in the way that the path asks for, and tells who it answers, so that no answer can go to another caller.

Paths: /ok /big/N /slow /early /close /reset /half /longer /shorter /flood /garbage /split /chunked /eof /stale /noread /interim /drip
"""
import random
import re
import socket
import struct
import threading
import time


def rst(s):
    try:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    s.close()


class Gone(Exception):
    pass


class Reader:
    def __init__(self, sock):
        self.sock, self.data = sock, b""

    def more(self):
        d = self.sock.recv(65536)
        if not d:
            raise Gone
        self.data += d

    def until(self, mark, limit=65536):
        while mark not in self.data:
            if len(self.data) > limit:
                raise ValueError("too much")
            self.more()
        head, self.data = self.data.split(mark, 1)
        return head

    def take(self, n):
        while len(self.data) < n:
            self.more()
        out, self.data = self.data[:n], self.data[n:]
        return out


class Request:
    def __init__(self, head):
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, version = lines[0].split(" ")
        assert version == "HTTP/1.1", lines[0]
        self.fields = [(n.lower(), v.strip()) for n, v in (l.split(":", 1) for l in lines[1:])]
        self.path = self.target.split("?")[0]
        self.body, self.trailers = b"", []

    def all(self, name):
        return [v for n, v in self.fields if n == name]

    def one(self, name):
        v = self.all(name)
        return v[0] if v else None

    def faults(self):
        """What no gateway may ever send."""
        out = []
        if len(self.all("host")) != 1:
            out.append("Host %r" % self.all("host"))
        cl, te = self.all("content-length"), self.all("transfer-encoding")
        if len(cl) + len(te) > 1 or (te and te != ["chunked"]) or (cl and not re.fullmatch(r"\d+", cl[0])):
            out.append("framing %r %r" % (cl, te))
        for name in ("sallyport-principal", "sallyport-exchange", "forwarded"):
            if len(self.all(name)) != 1:
                out.append("%s %r" % (name, self.all(name)))
        for n, v in self.fields:
            if n.startswith(("x-forwarded", "client-cert", "x_forwarded")) or "forged" in v:
                out.append("%s: %s" % (n, v))
        return out


class Origin:
    """Every connection has a thread. faults: what arrived and should not have."""

    def __init__(self, listeners, seed=1):
        self.listeners, self.faults, self.served, self.seed = listeners, [], 0, seed
        self.begun = {}  # x-id of each request that had a body or is unsafe: how often it came
        self.lock = threading.Lock()
        for s in listeners:
            threading.Thread(target=self._accept, args=(s,), daemon=True).start()

    def _accept(self, s):
        while True:
            try:
                c, _ = s.accept()
            except OSError:
                return
            c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(c,), daemon=True).start()

    def _serve(self, c):
        c.settimeout(20)
        r = Reader(c)
        try:
            while self._one(c, r):
                pass
        except (OSError, Gone):
            pass
        except (ValueError, AssertionError) as e:
            self.faults.append("unreadable request: %s" % e)
        finally:
            c.close()

    def body(self, r, q):
        if q.one("transfer-encoding"):
            while True:
                n = int(r.until(b"\r\n").split(b";")[0], 16)
                if not n:
                    break
                q.body += r.take(n)
                if r.take(2) != b"\r\n":
                    raise ValueError("chunk without its end")
            while True:
                t = r.until(b"\r\n")
                if not t:
                    return
                q.trailers.append(t.decode("latin-1"))
        else:
            q.body = r.take(int(q.one("content-length") or 0))

    def _one(self, c, r):
        q = Request(r.until(b"\r\n\r\n"))
        with self.lock:
            self.faults += q.faults()
            self.served += 1
            if q.method == "POST" and q.one("x-id") != "0":
                self.begun[q.one("x-id")] = self.begun.get(q.one("x-id"), 0) + 1
                if self.begun[q.one("x-id")] > 1:
                    self.faults.append("a POST came twice: %s" % q.one("x-id"))
        kind = q.path.split("/")[1]
        rnd = random.Random("%s %s" % (self.seed, q.one("x-id")))
        tag = "x-id: %s\r\n" % q.one("x-id")
        if q.one("expect") and kind != "early":
            c.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        early = getattr(self, "early_" + kind, None)
        if early:
            return early(c, r, q, tag, rnd)
        self.body(r, q)
        answer = getattr(self, "on_" + kind, None)
        if not answer:
            raise ValueError("path %s" % q.path)
        return answer(c, q, tag, rnd)

    # ---- those that answer well
    def on_ok(self, c, q, tag, rnd):
        body = ("%s %s %d %s" % (q.method, q.one("x-id"), len(q.body), " ".join(q.trailers))).encode()
        c.sendall(("HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n" % (tag, len(body))).encode() + (b"" if q.method == "HEAD" else body))
        return True

    def on_big(self, c, q, tag, rnd):
        n = int(q.path.split("/")[2])
        c.sendall(("HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n" % (tag, n)).encode())
        piece = b"z" * 65536
        while n:
            c.sendall(piece[:n])
            n -= min(n, len(piece))
        return True

    def on_slow(self, c, q, tag, rnd):
        time.sleep(rnd.random() * 0.5)
        return self.on_ok(c, q, tag, rnd)

    def on_drip(self, c, q, tag, rnd):
        c.sendall(("HTTP/1.1 200 OK\r\n%scontent-length: 10\r\n\r\n" % tag).encode())
        for _ in range(10):
            time.sleep(0.02)
            c.sendall(b"d")
        return True

    def on_chunked(self, c, q, tag, rnd):
        c.sendall(("HTTP/1.1 200 OK\r\n%stransfer-encoding: chunked\r\n\r\n" % tag).encode())
        for _ in range(rnd.randrange(6)):
            n = rnd.choice((1, 7, 4096, 70000))
            c.sendall(b"%x;e=1\r\n" % n + b"c" * n + b"\r\n")
        c.sendall(b"0\r\nx-end: yes\r\nx-forwarded-for: forged\r\n\r\n")
        return True

    def on_interim(self, c, q, tag, rnd):
        c.sendall(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nsallyport-principal: forged\r\n\r\n")
        return self.on_ok(c, q, tag, rnd)

    def on_eof(self, c, q, tag, rnd):
        c.sendall(("HTTP/1.1 200 OK\r\n%sconnection: close\r\n\r\nuntil the end" % tag).encode())
        return False

    def on_stale(self, c, q, tag, rnd):
        """Keep-alive by what it says, but it closes at once."""
        self.on_ok(c, q, tag, rnd)
        time.sleep(rnd.choice((0, 0.001, 0.02)))
        if rnd.random() < 0.3:
            rst(c)
        return False

    # ---- those that do not
    def on_close(self, c, q, tag, rnd):
        return False

    def on_reset(self, c, q, tag, rnd):
        if rnd.random() < 0.5:
            c.sendall(("HTTP/1.1 200 OK\r\n%scontent-length: 100\r\n\r\nhalf" % tag).encode())
        rst(c)
        return False

    def on_half(self, c, q, tag, rnd):
        c.sendall(("HTTP/1.1 200 OK\r\n%scontent-length: 100000\r\n\r\n" % tag).encode() + b"h" * rnd.randrange(100000))
        return False

    def on_longer(self, c, q, tag, rnd):
        c.sendall(("HTTP/1.1 200 OK\r\n%scontent-length: 5\r\n\r\nfive5and more than was said" % tag).encode())
        return True

    def on_shorter(self, c, q, tag, rnd):
        c.sendall(("HTTP/1.1 200 OK\r\n%stransfer-encoding: chunked\r\n\r\nff\r\nshort" % tag).encode())
        return False

    def on_flood(self, c, q, tag, rnd):
        for _ in range(40):
            c.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
        return self.on_ok(c, q, tag, rnd)

    def on_garbage(self, c, q, tag, rnd):
        c.sendall(rnd.choice((b"\x16\x03\x01\x00\x00", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n123456",
                              b"HTTP/1.1 200 OK\r\nbad header: 1\r\n\r\n", b"HTTP/1.1 2\x00 OK\r\n\r\n", b"x" * 100000,
                              b"HTTP/1.1 200 OK\r\na: b\n\n", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
                              b"HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\nabc")))
        return rnd.random() < 0.5

    def on_split(self, c, q, tag, rnd):
        """Two answers to one request: the second must never be anybody's."""
        one = ("HTTP/1.1 200 OK\r\n%scontent-length: 3\r\n\r\none" % tag).encode()
        c.sendall(one + b"HTTP/1.1 200 OK\r\nx-id: forged\r\ncontent-length: 3\r\n\r\ntwo")
        return True

    # ---- those that do not wait for the whole request
    def early_early(self, c, r, q, tag, rnd):
        c.sendall(("HTTP/1.1 413 Content Too Large\r\n%scontent-length: 3\r\nconnection: close\r\n\r\nno\n" % tag).encode())
        if rnd.random() < 0.5:
            self.body(r, q)
        return False

    def early_noread(self, c, r, q, tag, rnd):
        time.sleep(rnd.random())
        return False

    def stop(self):
        for s in self.listeners:
            s.close()


class Echo:
    """Raw TCP: sends back what it gets; now and then ends first, half-closes first or resets."""

    def __init__(self, listener, seed=1):
        self.listener, self.rnd = listener, random.Random(seed)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(c, self.rnd.random()), daemon=True).start()

    def _serve(self, c, mood):
        c.settimeout(20)
        left = int(mood * 300000) if mood < 0.3 else 1 << 40
        try:
            while left > 0:
                d = c.recv(65536)
                if not d:
                    break
                left -= len(d)
                c.sendall(d)
            if mood < 0.1:
                rst(c)
            elif mood < 0.2:
                c.shutdown(socket.SHUT_WR)
                while c.recv(65536):
                    pass
        except OSError:
            pass
        finally:
            c.close()

    def stop(self):
        self.listener.close()
