"""From a source of frames to sinks: sources, the loop, outputs and the run command. Called, it is ``edgedet.run``."""

from .. import make_callable

make_callable(__name__)
