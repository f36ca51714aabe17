"""Brokers, subscribers and runs for tests of MQTT; runs end before their broker does."""

from contextlib import ExitStack, closing

import pytest
from brokers import Subscriber, broker_in
from mqtt_runs import Run


@pytest.fixture
def start_broker(tmp_path):
    with ExitStack() as held:
        yield lambda *lines: held.enter_context(broker_in(tmp_path / "broker", *lines))


@pytest.fixture
def subscribe(start_broker):
    with ExitStack() as held:

        def make(*arguments, **options):
            return held.enter_context(closing(Subscriber(*arguments, **options)))

        yield make


@pytest.fixture
def run_of(subscribe):
    """Make runs, which end before their broker does."""
    with ExitStack() as held:

        def make(*arguments, **options):
            run = Run(*arguments, **options)
            held.callback(run.close)
            return run

        yield make
