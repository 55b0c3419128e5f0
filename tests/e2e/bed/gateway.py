# SPDX-License-Identifier: Apache-2.0
"""One gateway: its folder, its processes, its books."""
import glob
import json
import os
import re
import signal
import socket
import subprocess
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
BUILD = os.path.join(ROOT, os.environ.get("B", "build"))
DAEMON = os.path.join(BUILD, "sallyportd")
GWCTL = os.path.join(BUILD, "gwctl")
SLOW = 4 if "san" in BUILD else 1  # sanitizers: every deadline of a test is this much longer

FAULT = re.compile(r"Sanitizer|runtime error:|Assertion|assertion|SIGSYS|core dumped")


def conf(value, indent=0):
    """Python's dict and list as libconfig's groups, lists and arrays."""
    pad = "  " * indent
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return '"%s"' % value.replace("\\", "\\\\").replace('"', '\\"')
    if isinstance(value, dict):
        inner = "".join("%s  %s = %s;\n" % (pad, k, conf(v, indent + 1)) for k, v in value.items() if v is not None)
        return "{\n%s%s}" % (inner, pad)
    if not value:
        return "( )"
    if all(isinstance(v, (str, int)) for v in value):
        return "[ %s ]" % ", ".join(conf(v) for v in value)
    return "(\n%s\n%s)" % (",\n".join("%s  %s" % (pad, conf(v, indent + 1)) for v in value), pad)


def conf_file(d):
    return "".join("%s = %s;\n" % (k, conf(v)) for k, v in d.items() if v is not None)


def wait(what, test, seconds=10, every=0.02):
    """Until test() is true; its value."""
    end = time.monotonic() + seconds * SLOW
    while True:
        v = test()
        if v:
            return v
        if time.monotonic() > end:
            raise AssertionError("waited %g s in vain: %s" % (seconds * SLOW, what))
        time.sleep(every)


_unescape = re.compile(rb'\\x([0-9A-Fa-f]{2})')


def parse_record(line):
    """One RFC 5424 line as a dict: msgid and every parameter."""
    m = re.match(r'<(\d+)>1 (\S+) (\S+) (\S+) (\S+) (\S+) \[sallyport@\d+ (.*)\]$', line)
    assert m, "no record: %r" % line
    out = {"pri": int(m.group(1)), "time": m.group(2), "host": m.group(3), "pid": m.group(5), "msgid": m.group(6), "line": line}
    rest, pos = m.group(7), 0
    for p in re.finditer(r'([a-z_]+)="((?:[^"\\\]]|\\.)*)"(?: |$)', rest):
        assert p.start() == pos, "bad parameters: %r" % line
        pos = p.end()
        v = re.sub(r'\\(["\\\]])', r'\1', p.group(2)).encode()
        v = _unescape.sub(lambda x: bytes([int(x.group(1), 16)]), v).decode("utf-8", "replace")
        out[p.group(1)] = v
    assert pos == len(rest), "bad parameters: %r" % line
    return out


class Gateway:
    def __init__(self, ns, folder, config, rules=None, deny=None):
        self.ns, self.folder, self.proc = ns, folder, None
        os.makedirs(folder + "/policy.d", exist_ok=True)
        os.makedirs(folder + "/journal", exist_ok=True)
        self.config = {"user_prefix": "61000", "workers": 2}
        self.config.update(config)
        self.config.setdefault("journal", {"directory": "journal"})
        self.config.setdefault("control", {"socket": "control.sock"})
        self.path = folder + "/sallyport.conf"
        self.log_path = folder + "/log"
        self.write(rules=rules or [], deny=deny or [])

    # ---- files
    def write(self, rules=None, deny=None, **changes):
        """Write the config, with changes of its top level, and the policy."""
        self.config.update(changes)
        with open(self.path, "w") as f:
            f.write(conf_file(self.config))
        if rules is not None or deny is not None:
            self.policy(rules or [], deny or [])

    def policy(self, rules, deny=(), name="10-test.conf"):
        d = {}
        if deny:
            d["deny"] = list(deny)
        if rules:
            d["allow"] = list(rules)
        with open("%s/policy.d/%s" % (self.folder, name), "w") as f:
            f.write(conf_file(d))

    # ---- running
    def start(self, wait_ready=True):
        self.log_file = open(self.log_path, "ab")
        self.proc = self.ns.popen([DAEMON, "-f", "-c", self.path], stdin=subprocess.DEVNULL, stdout=self.log_file,
                                  stderr=self.log_file, cwd=self.folder)
        if wait_ready:
            self.wait_ready()
        return self

    def wait_ready(self, seconds=15):
        def ready():
            if self.proc.poll() is not None:
                raise AssertionError("sallyportd ended with %d:\n%s" % (self.proc.returncode, self.log()))
            st = self.status(check=False)
            if not st:
                return False
            return st.get("roles") and all(r["state"] == "ready" for r in st["roles"])
        try:
            wait("ready", ready, seconds, 0.05)
        except AssertionError as e:
            raise AssertionError("%s\nstatus %s\n%s" % (e, self.status(check=False), self.log()))

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def family(self):
        """All processes of this gateway."""
        out, todo = [], [self.proc.pid]
        while todo:
            pid = todo.pop()
            try:
                for t in os.listdir("/proc/%d/task" % pid):
                    with open("/proc/%d/task/%s/children" % (pid, t)) as f:
                        todo += map(int, f.read().split())
            except OSError:
                continue
            out.append(pid)
        return out

    def pids(self):
        """{pid: role}, as the gateway says."""
        return {r["pid"]: r["role"] for r in self.status()["roles"] if "pid" in r}

    def role(self, name):
        return [p for p, r in self.pids().items() if r == name]

    def kill(self, name, sig=signal.SIGKILL):
        """Each process of a role; returns their pids."""
        pids = self.role(name)
        assert pids, "no process of role %s in %s" % (name, self.pids())
        for p in pids:
            os.kill(p, sig)
        return pids

    def rss(self, role="worker"):
        total = 0
        for p in self.role(role):
            with open("/proc/%d/statm" % p) as f:
                total += int(f.read().split()[1]) * 4096
        return total

    def reload(self, check=True):
        return self.ctl("reload", check=check)

    def stop(self, check=True, sig=signal.SIGINT):
        """Ends it; with check, the log must be free of what only a bug writes there."""
        if self.proc is None:
            return
        family = self.family() if self.proc.poll() is None else []
        if self.proc.poll() is None:
            self.proc.send_signal(sig)
            try:
                self.proc.wait(15 * SLOW)
            except subprocess.TimeoutExpired:
                check = check and "did not stop"
                self.proc.kill()
                self.proc.wait()
        for p in family:
            try:
                os.kill(p, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.proc = None
        self.log_file.close()
        log = self.log()
        assert check != "did not stop", "sallyportd did not stop:\n" + log[-3000:]
        if check:
            bad = [l for l in log.splitlines() if FAULT.search(l)]
            assert not bad, "in the log of %s:\n%s" % (self.folder, log[-6000:])

    # ---- gwctl
    def ctl(self, *args, check=True, timeout=30):
        # By the socket's name, too: a configuration that cannot be read does not say it.
        p = self.ns.run(GWCTL, "-c", self.path, "-s", self.folder + "/control.sock", *args, check=False, timeout=timeout * SLOW)
        if check:
            assert p.returncode == 0, "gwctl %s: %d\n%s%s" % (" ".join(args), p.returncode, p.stdout.decode(), p.stderr.decode())
        return p

    def json(self, *args):
        return json.loads(self.ctl("--json", *args).stdout)

    def status(self, check=True):
        p = self.ctl("--json", "status", check=check)
        if p.returncode:
            return None
        try:
            return json.loads(p.stdout)
        except ValueError:
            if check:
                raise
            return None

    # ---- books
    def journal(self, msgid=None, **fields):
        """Records, oldest first, whose fields are these."""
        out = []
        for path in sorted(glob.glob(self.folder + "/journal/journal-*.log")):
            with open(path, newline="\n") as f:
                text = f.read()
            for line in text.split("\n")[:-1]:
                r = parse_record(line)
                if (msgid is None or r["msgid"] == msgid) and all(r.get(k) == str(v) for k, v in fields.items()):
                    out.append(r)
        return out

    def record(self, msgid=None, seconds=3, **fields):
        """The newest such record, once there is one."""
        try:
            return wait("record %s %s" % (msgid, fields), lambda: self.journal(msgid, **fields), seconds)[-1]
        except AssertionError as e:
            raise AssertionError("%s; the last of %s:\n%s" % (e, self.folder, "\n".join(r["line"] for r in self.journal()[-12:])))

    def exchanges(self, **fields):
        """Exchanges that ended, with what their open record said: dicts."""
        opens, out = {}, []
        for r in self.journal():
            key = r.get("exchange"), r.get("attempt")
            if r["msgid"] == "exchange-open":
                opens[key] = r
            elif r["msgid"] in ("exchange", "exchange-end"):
                r = {**opens.get(key, {}), **r}
                if all(r.get(k) == str(v) for k, v in fields.items()):
                    out.append(r)
        return out

    def exchange(self, seconds=3, **fields):
        """The newest such exchange, once it has ended."""
        try:
            return wait("exchange %s" % fields, lambda: self.exchanges(**fields), seconds)[-1]
        except AssertionError as e:
            raise AssertionError("%s; the last of %s:\n%s" % (e, self.folder, "\n".join(r["line"] for r in self.journal()[-12:])))

    def verify(self):
        return self.ctl("audit", "verify")


def curl(ns, *args, timeout=20, user=None):
    """curl in a namespace: (status, body, text of -v)."""
    argv = ["curl", "-sS", "-m", str(timeout * SLOW), "-w", "\n%{http_code}"] + list(args)
    with ns.enter():
        kw = {"user": user, "group": user, "extra_groups": []} if user is not None else {}
        p = subprocess.run(argv, capture_output=True, timeout=timeout * SLOW + 5, **kw)
    body, _, code = p.stdout.rpartition(b"\n")
    return int(code or 0), body, p.stderr.decode(errors="replace")


def recv_all(s, timeout=5):
    """Until the other side ends; raises ConnectionResetError for a reset."""
    s.settimeout(timeout * SLOW)
    out = b""
    while True:
        d = s.recv(65536)
        if not d:
            return out
        out += d


def http(s, data, timeout=5):
    """Send octets and read one answer with a Content-Length, or up to the end: (status, head, body)."""
    s.settimeout(timeout * SLOW)
    if data:
        s.sendall(data)
    return http_read(s)


def http_read(s, head_only=False):
    buf = b""
    while b"\r\n\r\n" not in buf:
        d = s.recv(65536)
        if not d:
            if not buf:
                return 0, b"", b""
            raise AssertionError("half a head: %r" % buf)
        buf += d
    head, body = buf.split(b"\r\n\r\n", 1)
    status = int(head.split(b" ")[1])
    if status // 100 == 1:
        raise AssertionError("interim answer: %r" % head)
    m = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
    if head_only:
        return status, head, body
    if m:
        while len(body) < int(m.group(1)):
            d = s.recv(65536)
            assert d, "answer cut short"
            body += d
    elif b"chunked" in head.lower():
        while not body.endswith(b"0\r\n\r\n"):
            d = s.recv(65536)
            assert d, "answer cut short"
            body += d
    return status, head, body


def reset(s):
    """Close with RST."""
    import struct
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
