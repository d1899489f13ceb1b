"""A short version of the campaign for listening sockets."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from tests.faults.sockets import campaign, listening_sockets, reachable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc lists sockets")


def test_a_socket_that_listens_is_found_with_its_address() -> None:
    before = listening_sockets(os.getpid())
    with socket.create_server(("127.0.0.1", 0)) as inner, socket.create_server(("0.0.0.0", 0)) as outer:
        found = listening_sockets(os.getpid()) - before
        ports = [f"{server.getsockname()[1]:04X}" for server in (inner, outer)]
    assert found == {("0100007F", ports[0]), ("00000000", ports[1])}
    assert reachable(found) == {("00000000", ports[1])}


def test_no_run_can_be_reached_from_another_machine(tmp_path: Path) -> None:
    """Of a run in several processes: tests/ranks/test_runs.py."""
    assert campaign(tmp_path, ["single"])["single"] == set()
