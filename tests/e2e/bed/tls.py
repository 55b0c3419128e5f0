# SPDX-License-Identifier: Apache-2.0
"""TLS clients of every kind, and HTTP/2 by hand."""
import ssl

import h2.config
import h2.connection
import h2.events

from .gateway import SLOW


def context(ca=None, cert=None, alpn=None, highest=None, lowest=None):
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname = False
    ctx.verify_mode = ssl.CERT_NONE
    if ca:
        ctx.load_verify_locations(ca)
        ctx.verify_mode = ssl.CERT_REQUIRED
    if cert:
        ctx.load_cert_chain(cert.crt, cert.keyfile)
    if alpn:
        ctx.set_alpn_protocols(alpn)
    if lowest:
        ctx.minimum_version = lowest
    if highest:
        ctx.maximum_version = highest
    return ctx


def connect(ns, to, name=None, source=None, **kw):
    s = ns.connect(to, source=source, timeout=5 * SLOW)
    return context(**kw).wrap_socket(s, server_hostname=name)


def refused(ns, to, ask=None, name=None, source=None, **kw):
    """True when the server refuses the handshake, or closes at once and answers nothing (in TLS 1.3 a client learns of a bad
    certificate by its first read)."""
    try:
        with connect(ns, to, name, source, **kw) as s:
            s.settimeout(5 * SLOW)
            s.sendall(ask or b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            return s.recv(100) == b""
    except ssl.SSLError as e:
        return "CERTIFICATE_VERIFY_FAILED" not in str(e)
    except (ConnectionResetError, BrokenPipeError):
        return True


class H2:
    """An HTTP/2 client on a connected socket. raw: the library checks nothing of what we send."""

    def __init__(self, sock, raw=True):
        self.sock = sock
        sock.settimeout(5 * SLOW)
        self.c = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=True, header_encoding="latin-1", validate_outbound_headers=not raw, normalize_outbound_headers=not raw,
            validate_inbound_headers=False))
        self.c.initiate_connection()
        self.flush()
        self.streams, self.goaway, self.closed = {}, None, False

    def flush(self):
        data = self.c.data_to_send()
        if data:
            self.sock.sendall(data)

    def request(self, fields, body=None, end=True):
        sid = self.c.get_next_available_stream_id()
        self.c.send_headers(sid, fields, end_stream=end and body is None)
        if body is not None:
            for i in range(0, len(body), 16000):
                self.c.send_data(sid, body[i:i + 16000], end_stream=end and i + 16000 >= len(body))
        self.flush()
        self.streams[sid] = {"status": None, "body": b"", "reset": None, "ended": False, "fields": []}
        return sid

    def pump(self, until, seconds=5):
        """Read until until() is true, or the connection ends."""
        import time
        end = time.monotonic() + seconds * SLOW
        while not until() and not self.closed:
            left = end - time.monotonic()
            assert left > 0, "no answer in %g s: %r" % (seconds, self.streams)
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(65536)
            except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
                data = b""
            except TimeoutError:
                raise AssertionError("no answer in %g s: %r" % (seconds, self.streams))
            if not data:
                self.closed = True
                return
            for e in self.c.receive_data(data):
                s = self.streams.get(getattr(e, "stream_id", None))
                if isinstance(e, h2.events.ConnectionTerminated):
                    self.goaway = e.error_code
                elif s is None:
                    continue
                elif isinstance(e, h2.events.ResponseReceived):
                    s["fields"] = e.headers
                    s["status"] = int(dict(e.headers)[":status"])
                elif isinstance(e, h2.events.DataReceived):
                    s["body"] += e.data
                    self.c.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
                elif isinstance(e, h2.events.StreamReset):
                    s["reset"], s["ended"] = e.error_code, True
                elif isinstance(e, h2.events.StreamEnded):
                    s["ended"] = True
            try:
                self.flush()
            except OSError:
                self.closed = True

    def result(self, sid, seconds=5):
        """What became of a stream: its dict, once it ended or the connection did."""
        self.pump(lambda: self.streams[sid]["ended"], seconds)
        return self.streams[sid]

    def get(self, authority, path="/", method="GET", fields=(), body=None):
        return self.result(self.request([(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)] + list(fields), body))

    def raw(self, data):
        self.sock.sendall(data)

    def close(self):
        self.sock.close()


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
