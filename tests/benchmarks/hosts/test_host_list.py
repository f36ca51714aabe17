"""Machines and groups of `edgedet bench --host`: hosts.yaml is read, and names that ssh would misread are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedet.benchmarks.hosts.host_list import Host, read_hosts
from edgedet.errors import InputError

pytest.importorskip("yaml", reason="hosts.yaml is read by PyYAML (edgedet[bench])")


def test_hosts_and_groups(tmp_path):
    (tmp_path / "hosts.yaml").write_text(
        "ssh_config: my.conf\nhosts:\n  nano2: {address: user@10.0.0.7, python: ~/e/bin/python}\n"
        "groups:\n  desk: [nano2, pi@board1]\n"
    )
    config = tmp_path / "my.conf"
    nano, other = Host("nano2", "user@10.0.0.7", "~/e/bin/python", config), Host("pi@board1", "pi@board1", None, config)
    assert read_hosts(["desk", "nano2"], tmp_path / "hosts.yaml") == [nano, other]
    assert read_hosts(["pi@board1"]) == [Host("pi@board1", "pi@board1")]
    (tmp_path / "hosts.yaml").write_text("ssh_config: ~/my.conf\n")
    assert read_hosts(["a"], tmp_path / "hosts.yaml") == [Host("a", "a", None, Path.home() / "my.conf")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hosts: [a, b]", "hosts must have lines of NAME: value"),
        ("hosts:\n  a: {port: 22}", "knows address, python, not 'port'"),
        ("machines: {}", "knows groups, hosts, ssh_config, not 'machines'"),
        ("groups:\n  desk: board1", "group desk must be a list"),
        ("hosts:\n  a: {address: '-oProxyCommand=x'}", "begins with a dash"),
        ("hosts: {a: {", "is no YAML"),
        ("- a", "the file must have lines"),
    ],
)
def test_a_file_of_hosts_that_is_none(tmp_path, text, message):
    path = tmp_path / "hosts.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        read_hosts(["a"], path)


@pytest.mark.parametrize("name", ["-oProxyCommand=touch x", "a b", ""])
def test_a_name_that_ssh_would_take_for_an_option_is_refused(name):
    with pytest.raises(InputError, match="wants names of machines"):
        read_hosts([name])
