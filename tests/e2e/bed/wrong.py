# SPDX-License-Identifier: Apache-2.0
"""Certificates that one thing is wrong with, and what a gateway calls it. The same for every side of a connection."""
from cryptography.x509.oid import ExtendedKeyUsageOID

from .pki import CLIENT, SERVER, san_uri


def ids(domain, path):
    """{name: octets of the URI} that are no id of this domain and path, or no id at all."""
    d, p = domain.encode(), path.encode()
    ok = b"spiffe://" + d + b"/" + p
    return {
        "case 45: NUL": ok + b"\0.evil",
        "case 45: an octet above 127": ok + "ä".encode(),
        "case 45: an empty URI": b"",
        "case 45: a line's end": ok + b"\r\n",
        "case 46: upper case": b"spiffe://" + d.upper() + b"/" + p,
        "case 46: upper-case scheme": b"SPIFFE://" + d + b"/" + p,
        "case 46: a port": b"spiffe://" + d + b":99/" + p,
        "case 46: userinfo": b"spiffe://u@" + d + b"/" + p,
        "case 46: percent": ok[:-1] + b"%61",
        "case 46: a trailing slash": ok + b"/",
        "case 46: two slashes": b"spiffe://" + d + b"//" + p,
        "case 46: dots": b"spiffe://" + d + b"/x/../" + p,
        "case 46: a query": ok + b"?x",
        "case 46: a fragment": ok + b"#x",
        "case 46: 2049 octets": ok + b"/" + b"a" * (2048 - len(ok)),
        "case 46: another scheme": b"https://" + d + b"/" + p,
    }


def table(domain, path, other, server=False):
    """{name: (arguments of CA.issue, reason, is it an alert)} for a certificate of domain/path. other: a domain that the far end knows, too.
    server: it is shown by a server."""
    ok = "spiffe://%s/%s" % (domain, path)
    out = {
        "case 43: for the other side only": (dict(uris=[ok], eku=(CLIENT if server else SERVER,)), "eku", False),
        "case 43: code signing": (dict(uris=[ok], eku=(ExtendedKeyUsageOID.CODE_SIGNING,)), "eku", False),
        "case 44: two URIs": (dict(uris=[ok, "spiffe://%s/admin" % domain]), "two-uri-sans", False),
        "case 44: the same URI twice": (dict(uris=[ok, ok]), "two-uri-sans", False),
        "case 47: only a DNS name": (dict(uris=[], dns=["app." + domain]), "no-uri-san", False),
        "case 47: only a CN": (dict(uris=[], cn=ok), "no-uri-san", False),
        "case 49: a CA": (dict(uris=[ok], ca=True), "ca-leaf", False),
        "case 49: may sign certificates": (dict(uris=[ok], ca=True, digital=True), "ca-leaf", False),
        "case 52: expired": (dict(uris=[ok], seconds=(-7200, -3600)), "expired", True),
        "case 52: not yet valid": (dict(uris=[ok], seconds=(3600, 7200)), "not-yet-valid", True),
        "no digitalSignature": (dict(uris=[ok], digital=False), "key-usage", False),
        "a domain that nobody knows": (dict(uris=["spiffe://other.example/" + path]), "unknown-domain", False),
        "case 48: an id of the other domain": (dict(uris=["spiffe://%s/%s" % (other, path)]), "untrusted", True),
    }
    for name, uri in ids(domain, path).items():
        out[name] = (dict(san=san_uri(uri)), "bad-id", False)
    return out


def too_long(ca):
    """Case 59: {name: arguments of CA.issue} for a right leaf with too much behind it, by number and by octets."""
    from cryptography.hazmat.primitives.serialization import Encoding
    pem = ca.cert.public_bytes(Encoding.PEM)
    return {"9 certificates": dict(chain=pem * 8), "20 certificates": dict(chain=pem * 20),
            "more than 64 KiB": dict(dns=["n%04d.%s.example" % (i, "x" * 50) for i in range(1200)]),
            "both": dict(chain=pem * 200)}
