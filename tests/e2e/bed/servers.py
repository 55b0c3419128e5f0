# SPDX-License-Identifier: Apache-2.0
"""What stands behind the gateways: nginx, and servers that record to the octet what they were sent."""
import os
import socket
import subprocess
import threading
import time


class Nginx:
    """The real thing, at 10.2.0.30:8080 of a namespace."""

    def __init__(self, ns, folder, at="10.2.0.30:8080"):
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o755)
        self.folder = folder
        www = os.path.join(folder, "www")
        os.makedirs(www, exist_ok=True)
        with open(os.path.join(www, "big.bin"), "wb") as f:
            f.truncate(128 << 20)
        with open(os.path.join(folder, "nginx.conf"), "w") as f:
            f.write("""
                daemon off; worker_processes 1; pid %(f)s/nginx.pid; error_log %(f)s/error.log warn;
                %(user)s
                events { worker_connections 1024; }
                http {
                    default_type text/plain; keepalive_timeout 60; client_max_body_size 0; lingering_close off;
                    log_format all '$request|$http_sallyport_principal|$http_sallyport_exchange|$status';
                    access_log %(f)s/access.log all;
                    client_body_temp_path %(f)s/t1; proxy_temp_path %(f)s/t2; fastcgi_temp_path %(f)s/t3; uwsgi_temp_path %(f)s/t4; scgi_temp_path %(f)s/t5;
                    server {
                        listen %(at)s;
                        location /v1/ { return 200 "nginx $request_method $request_uri\n"; }
                        location /admin/ { return 200 "admin\n"; }
                        location /files/ { alias %(f)s/www/; }
                        location /put/ { root %(f)s/www; dav_methods PUT; }
                        location /slow/ { limit_rate 64k; alias %(f)s/www/; }
                    }
                }""" % {"f": folder, "at": at, "user": "user root;" if os.getuid() == 0 else ""})
        self.proc = ns.popen(["nginx", "-e", folder + "/error.log", "-c", folder + "/nginx.conf"],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        host, port = at.split(":")
        for _ in range(100):
            try:
                ns.connect((host, int(port)), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        else:
            with open(folder + "/error.log") as f:
                raise AssertionError("nginx does not start: " + f.read())

    def requests(self):
        with open(self.folder + "/access.log") as f:
            return f.read().splitlines()

    def stop(self):
        self.proc.terminate()
        self.proc.wait(10)


class Server:
    """Accepts in a thread and runs on_conn(socket) in one per connection."""

    def __init__(self, ns, at, on_conn=None):
        self.at = at
        self.sock = ns.listen(at)
        self.conns = []
        self.lock = threading.Lock()
        if on_conn:
            self.on_conn = on_conn
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while True:
            try:
                c, _ = self.sock.accept()
            except OSError:
                return
            c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.conns.append(c)
            threading.Thread(target=self._one, args=(c,), daemon=True).start()

    def _one(self, c):
        try:
            self.on_conn(c)
        except (OSError, ValueError):
            pass
        finally:
            with self.lock:
                if c in self.conns:
                    self.conns.remove(c)
            c.close()

    def stop(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        with self.lock:
            for c in self.conns:
                try:
                    c.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


class Request:
    def __init__(self, head):
        self.head = head
        lines = head.split(b"\r\n")
        self.line = lines[0].decode("latin-1")
        self.fields = [tuple(x.strip() for x in l.decode("latin-1").split(":", 1)) for l in lines[1:] if l]
        self.body, self.trailers = b"", []

    def get(self, name):
        """All values of a field, in order."""
        return [v for n, v in self.fields if n.lower() == name.lower()]

    def names(self):
        return [n.lower() for n, _ in self.fields]


class Origin(Server):
    """An HTTP/1.1 server that keeps every request. "answers" maps a path to octets, or to a function of (socket, Request)."""

    def __init__(self, ns, at=("10.2.0.30", 9000)):
        self.requests, self.raw, self.answers, self.faults = [], [], {}, []
        super().__init__(ns, at)

    def on_conn(self, c):
        c.settimeout(60)
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                d = c.recv(65536)
                if not d:
                    if data:
                        self.faults.append(data)
                    return
                self.raw.append(d)
                data += d
            head, data = data.split(b"\r\n\r\n", 1)
            r = Request(head)
            path = r.line.split(" ")[1].split("?")[0] if r.line.count(" ") == 2 else None
            answer = self.answers.get(path)
            if callable(answer) and getattr(answer, "early", False):
                self.requests.append(r)
                if answer(c, r) is False:
                    return
                continue
            if "100-continue" in [v.lower() for v in r.get("expect")]:
                c.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            if "chunked" in [v.lower() for v in r.get("transfer-encoding")]:
                r.body, r.trailers, data = self._chunks(c, data)
            else:
                n = int((r.get("content-length") or ["0"])[0])
                while len(data) < n:
                    d = c.recv(65536)
                    if not d:
                        self.faults.append(data)
                        return
                    data += d
                r.body, data = data[:n], data[n:]
            self.requests.append(r)
            if callable(answer):
                if answer(c, r) is False:
                    return
            elif answer is not None:
                c.sendall(answer)
            elif r.line.startswith("HEAD "):
                c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
            else:
                body = b"echo:" + r.body
                c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    def _chunks(self, c, data):
        body, trailers = b"", []

        def line():
            nonlocal data
            while b"\r\n" not in data:
                d = c.recv(65536)
                if not d:
                    raise ValueError
                data += d
            one, data = data.split(b"\r\n", 1)
            return one

        while True:
            n = int(line().split(b";")[0], 16)
            if not n:
                break
            while len(data) < n + 2:
                d = c.recv(1 << 20)
                if not d:
                    raise ValueError
                data += d
            body += data[:n]
            data = data[n + 2:]
        while True:
            t = line()
            if not t:
                return body, trailers, data
            trailers.append(t.decode("latin-1"))

    def last(self):
        return self.requests[-1]

    def clear(self):
        self.requests, self.raw, self.faults = [], [], []
        self.answers.clear()


class Echo(Server):
    """TCP: sends back what it gets, and ends when the other side has ended."""

    def __init__(self, ns, at=("10.2.0.30", 5432)):
        self.ends = []
        super().__init__(ns, at)

    def on_conn(self, c):
        total = 0
        try:
            while True:
                d = c.recv(65536)
                if not d:
                    self.ends.append(("eof", total))
                    c.sendall(b"bye")
                    return
                total += len(d)
                c.sendall(d)
        except ConnectionResetError:
            self.ends.append(("reset", total))
