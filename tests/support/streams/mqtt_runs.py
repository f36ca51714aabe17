"""A run whose frames a test makes, with its events on MQTT."""

from contextlib import ExitStack

from walkers import CLASS_NAMES, result, walker

from edgedet.events.clips import ClipRules
from edgedet.events.mqtt import mqtt_publisher
from edgedet.events.mqtt_options import MqttOptions
from edgedet.events.sink import EventOptions, events_sink
from edgedet.events.watch import Rulebook, Rules
from edgedet.events.zones import Zone

ALL = Zone("yard", ((0, 0), (1, 0), (1, 1), (0, 1)))


class Run:
    """A run whose frames the test makes."""

    def __init__(self, folder, port, **options):
        self.lines = []
        self._held = ExitStack()
        mqtt = MqttOptions("127.0.0.1", port, node="board", **options)
        self._publisher = self._held.enter_context(mqtt_publisher(mqtt, folder, self.lines.append))
        rules = EventOptions(folder, Rulebook(others=Rules(places=(ALL,))), clips=ClipRules(fps=0))
        self._write = self._held.enter_context(events_sink(rules, CLASS_NAMES, live=False, publisher=self._publisher))
        self._time_s, self._id = 0.0, 0

    def walk(self, frames=4):
        """Let one object come, stay for some frames, and go."""
        self._id += 1
        for _ in range(frames):
            self._write(result([walker(self._id, 0.5)], self._time_s))
            self._time_s += 0.1
        self._write(result([], self._time_s))

    def write(self, results):
        for item in results:
            self._write(item)

    def close(self):
        self._held.close()
