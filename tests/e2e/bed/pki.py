# SPDX-License-Identifier: Apache-2.0
"""Certificates: the right ones are gwctl's work; the wrong ones, which gwctl will not make, are made here with a CA's key."""
import datetime
import ipaddress
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


def pem_key(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class Cert:
    def __init__(self, path, cert, key, chain=b""):
        self.cert, self.key = cert, key
        self.crt, self.keyfile = path + ".crt", path + ".key"
        with open(self.crt, "wb") as f:
            f.write(cert.public_bytes(serialization.Encoding.PEM) + chain)
        with open(os.open(self.keyfile, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
            f.write(pem_key(key))


class CA:
    def __init__(self, folder, domain, name=None, key=None, cert=None):
        """A new CA, or with key and cert one that gwctl made."""
        self.folder, self.domain = folder, domain
        os.makedirs(folder, exist_ok=True)
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.utcnow()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name or domain + " CA")])
        self.cert = cert or (
            x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(self.key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(True, None), True)
            .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://" + domain)]), False)
            .sign(self.key, hashes.SHA256()))
        self.chain = b""
        self.bundle = os.path.join(folder, domain + ".pem")
        if not os.path.exists(self.bundle):
            with open(self.bundle, "wb") as f:
                f.write(self.cert.public_bytes(serialization.Encoding.PEM))

    @classmethod
    def of_gwctl(cls, folder, domain):
        """The issuing CA of a store that gwctl made; what it issues here carries it as chain."""
        with open(folder + "/ca/issuing.crt", "rb") as f:
            pem = f.read()
        with open(folder + "/ca/issuing.key", "rb") as f:
            ca = cls(folder, domain, key=serialization.load_pem_private_key(f.read(), None), cert=x509.load_pem_x509_certificate(pem))
        ca.chain = pem
        return ca

    def issue(self, name, uris=None, dns=(), ips=(), eku=(CLIENT, SERVER), ca=False, days=(-1, 30), seconds=None, cn=None,
              usage=True, san=None, issuer_key=None, chain=None, digital=True):
        """A leaf with anything in it. name: the file's, and the id's path if no uris are given."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.utcnow()
        begin, end = now + datetime.timedelta(days=days[0]), now + datetime.timedelta(days=days[1])
        if seconds:
            begin, end = now + datetime.timedelta(seconds=seconds[0]), now + datetime.timedelta(seconds=seconds[1])
        if uris is None:
            uris = ["spiffe://%s/%s" % (self.domain, name)]
        names = [x509.UniformResourceIdentifier(u) for u in uris] + [x509.DNSName(d) for d in dns]
        names += [x509.IPAddress(ipaddress.ip_address(i)) for i in ips]
        b = (x509.CertificateBuilder().issuer_name(self.cert.subject).public_key(key.public_key())
             .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)] if cn else []))
             .serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)
             .add_extension(x509.BasicConstraints(ca, None), True)
             .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False))
        if usage:
            b = b.add_extension(x509.KeyUsage(digital, False, False, False, not digital, ca, ca, False, False), True)
        if eku:
            b = b.add_extension(x509.ExtendedKeyUsage(list(eku)), False)
        if san is not None:
            b = b.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), san), False)
        elif names:
            b = b.add_extension(x509.SubjectAlternativeName(names), not cn)
        cert = b.sign(issuer_key or self.key, hashes.SHA256())
        return Cert(os.path.join(self.folder, name.replace("/", "-")), cert, key, self.chain if chain is None else chain)


def san_uri(*raw):
    """A SubjectAlternativeName of URIs with any octets, as DER."""
    body = b"".join(b"\x86" + der_length(len(u)) + u for u in raw)
    return b"\x30" + der_length(len(body)) + body


def der_length(n):
    if n < 128:
        return bytes([n])
    b = n.to_bytes((n.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(b)]) + b
