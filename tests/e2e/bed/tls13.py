# SPDX-License-Identifier: Apache-2.0
"""TLS 1.3 by hand (RFC 8446), either side, one suite and one group: for what no library lets one say. Nothing of the far end is verified."""
import hashlib
import hmac
import os
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate

ALERT, HANDSHAKE, DATA = 21, 22, 23
CLIENT_HELLO, SERVER_HELLO, TICKET, ENCRYPTED, CERTIFICATE, CERT_REQUEST, CERT_VERIFY, FINISHED, KEY_UPDATE = 1, 2, 4, 8, 11, 13, 15, 20, 24
SNI, GROUPS, SIGALGS, ALPN, PSK, EARLY_DATA, VERSIONS, PSK_MODES, SHARES = 0, 10, 13, 16, 41, 42, 43, 45, 51
EMPTY = hashlib.sha256(b"").digest()


class Alert(Exception):
    def __init__(self, code):
        super().__init__("alert %d" % code)
        self.code = code


class Closed(Exception):
    pass


def vec(size, data):
    return len(data).to_bytes(size, "big") + data


def message(kind, body):
    return bytes([kind]) + vec(3, body)


def extract(salt, key):
    return hmac.new(salt, key, hashlib.sha256).digest()


def expand(secret, label, context=b"", n=32):
    info, out, t, i = struct.pack("!H", n) + vec(1, b"tls13 " + label) + vec(1, context), b"", b"", 1
    while len(out) < n:
        t = hmac.new(secret, t + info + bytes([i]), hashlib.sha256).digest()
        out, i = out + t, i + 1
    return out[:n]


class Keys:
    def __init__(self, secret):
        self.secret, self.n = secret, 0
        self.aead, self.iv = AESGCM(expand(secret, b"key", n=16)), expand(secret, b"iv", n=12)

    def nonce(self):
        v = int.from_bytes(self.iv, "big") ^ self.n
        self.n += 1
        return v.to_bytes(12, "big")

    def seal(self, kind, data):
        head = struct.pack("!BHH", 23, 0x303, len(data) + 17)
        return head + self.aead.encrypt(self.nonce(), data + bytes([kind]), head)

    def open(self, head, data):
        p = self.aead.decrypt(self.nonce(), data, head).rstrip(b"\0")
        return p[-1], p[:-1]

    def next(self):
        """After a KeyUpdate (RFC 8446 7.2)."""
        return Keys(expand(self.secret, b"traffic upd"))


def parse_hello(body):
    """A ClientHello's parts: versions, ciphers, compression, {extension: octets}, in order."""
    at = 34
    n = body[at]
    session, at = body[at + 1:at + 1 + n], at + 1 + n
    n = int.from_bytes(body[at:at + 2], "big")
    suites, at = body[at + 2:at + 2 + n], at + 2 + n
    n = body[at]
    compression, at = body[at + 1:at + 1 + n], at + 1 + n
    ext, end = {}, at + 2 + int.from_bytes(body[at:at + 2], "big")
    at += 2
    while at < end:
        kind, n = struct.unpack("!HH", body[at:at + 4])
        ext[kind] = body[at + 4:at + 4 + n]
        at += 4 + n
    return {"session": session, "suites": suites, "compression": compression, "ext": ext}


class Tls13:
    """One end of a connection. Change what it says by its attributes before handshake(): compression, legacy, extra (more extensions of
    its hello, {number: octets}), chain (list of DER certificates)."""

    def __init__(self, sock, cert=None, alpn=(), server=False, sni=None):
        self.sock, self.cert, self.alpn, self.server, self.sni = sock, cert, list(alpn), server, sni
        self.compression, self.legacy, self.extra, self.chain = b"\0", 0x303, {}, None
        self.versions = [0x304]
        self.read_keys = self.write_keys = None
        self.hello = None              # the far end's ClientHello, once read
        self.transcript, self.pending, self.raw = b"", b"", b""
        self.early = b""               # records to be sent right after the ClientHello

    # ---- records
    def send(self, kind, data):
        if self.write_keys:
            self.sock.sendall(self.write_keys.seal(kind, data))
        else:
            self.sock.sendall(struct.pack("!BHH", kind, 0x301, len(data)) + data)

    def read_exactly(self, n):
        while len(self.raw) < n:
            try:
                d = self.sock.recv(65536)
            except (ConnectionResetError, BrokenPipeError):
                raise Closed("reset")
            if not d:
                raise Closed("end")
            self.raw += d
        out, self.raw = self.raw[:n], self.raw[n:]
        return out

    def recv(self):
        """(type, data) of the next record, decrypted; raises Alert and Closed."""
        while True:
            head = self.read_exactly(5)
            data = self.read_exactly(int.from_bytes(head[3:], "big"))
            kind = head[0]
            if kind == 20:  # change_cipher_spec, of old
                continue
            if self.read_keys and kind == DATA:
                kind, data = self.read_keys.open(head, data)
            if kind == ALERT:
                raise Alert(data[1])
            return kind, data

    def say(self, kind, body):
        m = message(kind, body)
        self.transcript += m
        self.send_long(m)

    def send_long(self, m):
        for i in range(0, len(m), 16000):
            self.send(HANDSHAKE, m[i:i + 16000])

    def hear(self):
        """The next handshake message: (type, body)."""
        while len(self.pending) < 4 or len(self.pending) < 4 + int.from_bytes(self.pending[1:4], "big"):
            kind, data = self.recv()
            assert kind == HANDSHAKE, kind
            self.pending += data
        n = 4 + int.from_bytes(self.pending[1:4], "big")
        m, self.pending = self.pending[:n], self.pending[n:]
        self.transcript += m
        return m[0], m[4:]

    def hash(self):
        return hashlib.sha256(self.transcript).digest()

    # ---- secrets (RFC 8446 7.1)
    def start_keys(self, shared):
        early = extract(bytes(32), bytes(32))
        self.handshake_secret = extract(expand(early, b"derived", EMPTY), shared)
        c, s = (expand(self.handshake_secret, label + b" hs traffic", self.hash()) for label in (b"c", b"s"))
        self.mine, self.theirs = (s, c) if self.server else (c, s)
        self.read_keys, self.write_keys = Keys(self.theirs), Keys(self.mine)

    def data_secrets(self):
        master = extract(expand(self.handshake_secret, b"derived", EMPTY), bytes(32))
        c, s = (expand(master, label + b" ap traffic", self.hash()) for label in (b"c", b"s"))
        return (s, c) if self.server else (c, s)

    def finished(self, secret):
        return hmac.new(expand(secret, b"finished"), self.hash(), hashlib.sha256).digest()

    # ---- messages
    def certificates(self):
        if self.chain is not None:
            return self.chain
        if self.cert is None:
            return []
        with open(self.cert.crt, "rb") as f:
            pems = f.read().split(b"-----BEGIN")[1:]
        return [load_pem_x509_certificate(b"-----BEGIN" + p).public_bytes(Encoding.DER) for p in pems]

    def prove(self):
        """Certificate and CertificateVerify."""
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
        certs = self.certificates()
        self.say(CERTIFICATE, b"\0" + vec(3, b"".join(vec(3, c) + b"\0\0" for c in certs)))
        if not certs:
            return
        with open(self.cert.keyfile, "rb") as f:
            key = load_pem_private_key(f.read(), None)
        side = b"server" if self.server else b"client"
        tbs = b" " * 64 + b"TLS 1.3, " + side + b" CertificateVerify\0" + self.hash()
        self.say(CERT_VERIFY, struct.pack("!H", 0x403) + vec(2, key.sign(tbs, ec.ECDSA(hashes.SHA256()))))

    def client_hello(self):
        self.private = X25519PrivateKey.generate()
        share = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        ext = {GROUPS: vec(2, b"\0\x1d"), SIGALGS: vec(2, b"\x04\x03\x08\x04\x08\x07"), SHARES: vec(2, b"\0\x1d" + vec(2, share))}
        if self.versions:
            ext[VERSIONS] = vec(1, b"".join(struct.pack("!H", v) for v in self.versions))
        if self.sni:
            ext[SNI] = vec(2, b"\0" + vec(2, self.sni.encode()))
        if self.alpn:
            ext[ALPN] = vec(2, b"".join(vec(1, a.encode()) for a in self.alpn))
        ext.update(self.extra)
        if PSK in ext:
            ext[PSK] = ext.pop(PSK)  # it must be the last
        body = struct.pack("!H", self.legacy) + os.urandom(32) + vec(1, os.urandom(32)) + vec(2, b"\x13\x01") + vec(1, self.compression)
        return body + vec(2, b"".join(struct.pack("!H", k) + vec(2, v) for k, v in ext.items()))

    def handshake(self):
        (self.accept if self.server else self.dial)()
        return self

    def dial(self):
        self.say(CLIENT_HELLO, self.client_hello())
        if self.early:
            self.sock.sendall(self.early)
        kind, body = self.hear()
        assert kind == SERVER_HELLO, kind
        n = 35 + body[34]
        self.server_extensions = self.extensions(body[n + 3:])
        self.start_keys(self.private.exchange(X25519PublicKey.from_public_bytes(self.server_extensions[SHARES][4:])))
        asked = False
        while kind != FINISHED:
            kind, body = self.hear()
            asked |= kind == CERT_REQUEST
            if kind == ENCRYPTED:
                self.encrypted_extensions = self.extensions(body)
        mine, theirs = self.data_secrets()
        if asked:
            self.prove()
        self.say(FINISHED, self.finished(self.mine))
        self.read_keys, self.write_keys = Keys(theirs), Keys(mine)

    @staticmethod
    def extensions(body):
        ext, at = {}, 2
        while at < len(body):
            kind, n = struct.unpack("!HH", body[at:at + 4])
            ext[kind] = body[at + 4:at + 4 + n]
            at += 4 + n
        return ext

    def read_hello(self):
        kind, body = self.hear()
        assert kind == CLIENT_HELLO, kind
        self.hello = parse_hello(body)
        return self.hello

    def accept(self):
        ext = (self.hello or self.read_hello())["ext"]
        shares, at, theirs = ext[SHARES], 2, None
        while at < len(shares):
            group, n = struct.unpack("!HH", shares[at:at + 4])
            if group == 0x1d:
                theirs = shares[at + 4:at + 4 + n]
            at += 4 + n
        private = X25519PrivateKey.generate()
        share = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        e = {VERSIONS: struct.pack("!H", v) for v in self.versions[:1]}
        e.update({SHARES: b"\0\x1d" + vec(2, share)})
        e.update(self.extra)
        self.say(SERVER_HELLO, struct.pack("!H", self.legacy) + os.urandom(32) + vec(1, self.hello["session"]) + b"\x13\x01" + self.compression +
                 vec(2, b"".join(struct.pack("!H", k) + vec(2, v) for k, v in e.items())))
        self.start_keys(private.exchange(X25519PublicKey.from_public_bytes(theirs)))
        chosen = struct.pack("!H", ALPN) + vec(2, vec(2, vec(1, self.alpn[0].encode()))) if self.alpn else b""
        self.say(ENCRYPTED, vec(2, chosen))
        self.say(CERT_REQUEST, b"\0" + vec(2, struct.pack("!H", SIGALGS) + vec(2, vec(2, b"\x04\x03"))))
        self.prove()
        self.say(FINISHED, self.finished(self.mine))
        mine, theirs = self.data_secrets()
        self.write_keys = Keys(mine)
        while self.hear()[0] != FINISHED:
            pass
        self.read_keys = Keys(theirs)

    # ---- afterwards
    def key_update(self, answer=False):
        """RFC 8446 4.6.3."""
        self.send(HANDSHAKE, message(KEY_UPDATE, bytes([answer])))
        self.write_keys = self.write_keys.next()

    def until_end(self, seconds=5):
        """Reads until the far end closes: the alert's number, or None."""
        self.sock.settimeout(seconds)
        try:
            while True:
                kind, data = self.recv()
                if kind == HANDSHAKE and data[0] == KEY_UPDATE:
                    self.read_keys = self.read_keys.next()
        except Alert as a:
            return a.code
        except Closed:
            return None
