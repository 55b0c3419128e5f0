# SPDX-License-Identifier: Apache-2.0
"""Network namespaces without names: they live as long as a descriptor of ours or a process in them, so nothing is left
behind however a run ends, and two runs cannot meet.

    hud 192.0.2.10 ── 192.0.2.1 fw 203.0.113.1 ── 203.0.113.20 irs
    2001:db8:1::10    (routes and filters)        2001:db8:2::20
    inside: 10.1.0.0/24 on lo                     inside: 10.2.0.0/24 on lo
"""
import contextlib
import ctypes
import json
import os
import select
import socket
import struct
import subprocess
import threading
import time

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _check(r):
    if r < 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))


def die_with_us():
    """preexec: a child of the tests ends with them."""
    _libc.prctl(PR_SET_PDEATHSIG, 9)


class Namespace:
    def __init__(self, name):
        self.name = name
        box = {}

        def make():  # unshare moves the calling thread: one of its own, that ends
            try:
                _check(_libc.unshare(CLONE_NEWNET))
                box["fd"] = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            except OSError as e:
                box["error"] = e

        t = threading.Thread(target=make)
        t.start()
        t.join()
        if "error" in box:
            raise box["error"]
        self.fd = box["fd"]
        self.path = "/proc/%d/fd/%d" % (os.getpid(), self.fd)
        self.run("ip", "link", "set", "lo", "up")

    @contextlib.contextmanager
    def enter(self):
        """The calling thread, and what it starts, is inside."""
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _check(_libc.setns(self.fd, CLONE_NEWNET))
        try:
            yield
        finally:
            _check(_libc.setns(back, CLONE_NEWNET))
            os.close(back)

    def run(self, *argv, check=True, input=None, timeout=30, **kw):
        with self.enter():
            p = subprocess.run(argv, input=input, capture_output=True, timeout=timeout, **kw)
        if check and p.returncode:
            raise AssertionError("%s: %s" % (" ".join(argv), p.stderr.decode(errors="replace")))
        return p

    def popen(self, argv, **kw):
        with self.enter():
            return subprocess.Popen(argv, preexec_fn=die_with_us, **kw)

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, proto=0):
        with self.enter():
            return socket.socket(family, kind, proto)

    def connect(self, to, source=None, timeout=10):
        s = self.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET)
        s.settimeout(timeout)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            s.bind((source, 0))
        s.connect(to)
        return s

    def listen(self, at, backlog=128):
        s = self.socket(socket.AF_INET6 if ":" in at[0] else socket.AF_INET)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(at)
        s.listen(backlog)
        return s

    def close(self):
        os.close(self.fd)


class Capture:
    """Every packet that the firewall sees on one interface, from now on."""

    def __init__(self, ns, interface, keep=64 << 20):
        self.sock = ns.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sock.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE
        self.sock.bind((interface, 3))
        self.packets, self.bytes, self.keep = [], 0, keep
        self.stop_r, self.stop_w = os.pipe()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while True:
            r, _, _ = select.select([self.sock, self.stop_r], [], [])
            if self.stop_r in r:
                return
            p = self.sock.recv(65536)
            if self.bytes < self.keep:
                self.packets.append(p)
                self.bytes += len(p)

    def stop(self):
        time.sleep(0.05)
        os.write(self.stop_w, b"x")
        self.thread.join()
        self.sock.close()
        os.close(self.stop_r)
        os.close(self.stop_w)
        return self

    def flows(self):
        """(protocol, source, source port, target, target port, is it the first SYN) of what was IP."""
        out = set()
        for p in self.packets:
            kind, ip = struct.unpack("!H", p[12:14])[0], p[14:]
            if kind == 0x0800:
                proto, src, dst, rest = ip[9], socket.inet_ntoa(ip[12:16]), socket.inet_ntoa(ip[16:20]), ip[(ip[0] & 15) * 4:]
            elif kind == 0x86dd:
                proto, rest = ip[6], ip[40:]
                src, dst = socket.inet_ntop(socket.AF_INET6, ip[8:24]), socket.inet_ntop(socket.AF_INET6, ip[24:40])
                if proto in (0, 58):  # neighbour discovery, multicast listeners
                    continue
            else:
                continue  # ARP
            ports, syn = (0, 0), False
            if proto in (6, 17):
                ports = struct.unpack("!HH", rest[:4])
                syn = proto == 6 and rest[13] & 0x12 == 0x02
            out.add((proto, src, ports[0], dst, ports[1], syn))
        return out

    def contains(self, text):
        return any(text in p for p in self.packets)


class World:
    HUD, IRS = "192.0.2.10", "203.0.113.20"
    HUD6, IRS6 = "2001:db8:1::10", "2001:db8:2::20"

    def __init__(self):
        self.hud, self.fw, self.irs = Namespace("hud"), Namespace("fw"), Namespace("irs")
        for ns, far, near, gate, near6, gate6, inside in (
                (self.hud, "hud", self.HUD, "192.0.2.1", self.HUD6, "2001:db8:1::1", "10.1.0."),
                (self.irs, "irs", self.IRS, "203.0.113.1", self.IRS6, "2001:db8:2::1", "10.2.0.")):
            self.fw.run("ip", "link", "add", far, "type", "veth", "peer", "name", "wan", "netns", ns.path)
            self.fw.run("ip", "addr", "add", gate + "/24", "dev", far)
            self.fw.run("ip", "addr", "add", gate6 + "/64", "dev", far, "nodad")
            self.fw.run("ip", "link", "set", far, "up")
            ns.run("ip", "addr", "add", near + "/24", "dev", "wan")
            ns.run("ip", "addr", "add", near6 + "/64", "dev", "wan", "nodad")
            for i in (7, 8, 10, 20, 21, 30, 31):
                ns.run("ip", "addr", "add", "%s%d/32" % (inside, i), "dev", "lo")
            ns.run("ip", "link", "set", "wan", "up")
            ns.run("ip", "route", "add", "default", "via", gate)
            ns.run("ip", "-6", "route", "add", "default", "via", gate6)
        for key in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            with self.fw.enter(), open("/proc/sys/" + key, "w") as f:
                f.write("1")
        self.open(("hud", "irs"))

    def open(self, *ways, port=443):
        """Let TCP to this port through in these directions, ("hud", "irs") or ("irs", "hud"), and nothing else."""
        rules = "".join('iifname "%s" oifname "%s" tcp dport %d ct state new counter name passed accept\n' % (a, b, port) for a, b in ways)
        self.fw.run("nft", "-f", "-", input=("""
            flush ruleset
            table inet fw {
                counter passed { }
                counter dropped { }
                chain forward {
                    type filter hook forward priority 0; policy drop;
                    ct state established,related tcp sport %d accept
                    ct state established,related tcp dport %d accept
                    %s
                    counter name dropped drop
                }
            }""" % (port, port, rules)).encode())

    def blackhole(self):
        """Everything is lost from now on, established or not, without a word."""
        self.fw.run("nft", "insert rule inet fw forward drop")

    def counter(self, name):
        out = json.loads(self.fw.run("nft", "-j", "list", "counter", "inet", "fw", name).stdout)
        return next(x["counter"]["packets"] for x in out["nftables"] if "counter" in x)

    def capture(self):
        return Capture(self.fw, "hud")

    def close(self):
        for ns in (self.hud, self.fw, self.irs):
            ns.close()
