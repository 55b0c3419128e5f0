# SPDX-License-Identifier: Apache-2.0
import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from bed.domains import Pair  # noqa: E402
from bed.gateway import SLOW  # noqa: E402
from bed.net import World  # noqa: E402
from bed.servers import Echo, Nginx, Origin  # noqa: E402


class TookTooLong(Exception):
    pass


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """Nothing hangs: a test, with what it sets up, has 60 s (pytest.mark.limit for more)."""
    mark = item.get_closest_marker("limit")
    seconds = (mark.args[0] if mark else 60) * SLOW

    def on_alarm(*_):
        raise TookTooLong("no end after %d s" % seconds)

    old = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds, 5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


@pytest.fixture(scope="session")
def world():
    w = World()
    yield w
    w.close()


@pytest.fixture(scope="session")
def nginx(world, tmp_path_factory):
    n = Nginx(world.irs, str(tmp_path_factory.mktemp("nginx")))
    yield n
    n.stop()


@pytest.fixture(scope="session")
def origin_server(world):
    o = Origin(world.irs)
    yield o
    o.stop()


@pytest.fixture
def origin(origin_server):
    origin_server.clear()
    return origin_server


@pytest.fixture(scope="session")
def echo(world):
    e = Echo(world.irs)
    yield e
    e.stop()


@pytest.fixture(scope="session")
def services(nginx, origin_server, echo):
    """Everything that stands behind gateway B."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A new folder that role users can traverse, with a path short enough for Unix sockets."""
    import tempfile
    base = tempfile.mkdtemp(prefix="sp-")
    os.chmod(base, 0o755)
    count = [0]

    def new():
        count[0] += 1
        path = os.path.join(base, str(count[0]))
        os.mkdir(path, 0o755)
        return path

    yield new
    if not os.environ.get("KEEP"):
        import shutil
        shutil.rmtree(base, ignore_errors=True)


# Every pair has the same addresses, so one is up at a time: the usual one steps aside for a test's own.
usual = []


@pytest.fixture(scope="module")
def usual_pair(world, services, folder):
    world.open(("hud", "irs"))
    p = Pair(world, folder())
    usual.append(p)
    yield p
    usual.remove(p)
    p.stop()


@pytest.fixture
def pair(world, usual_pair):
    """The usual two gateways, A dials; shared by a module's tests, which put back what they change."""
    if not usual_pair.running():
        usual_pair.stop(check=False)
        world.open(("hud", "irs"))
        usual_pair.start()
    return usual_pair


@pytest.fixture
def make_pair(world, services, folder):
    """A pair for one test: make_pair(a={...}, rules_b=[...], ways=[("irs", "hud")])."""
    made = []

    def make(ways=(("hud", "irs"),), **kw):
        for p in usual + made:
            p.stop()
        world.open(*ways)
        p = Pair(world, folder(), start=False, **{k: v for k, v in kw.items() if k != "start"})
        made.append(p)
        if kw.get("start", True):
            p.start()
        return p

    yield make
    for p in made:
        p.stop()
