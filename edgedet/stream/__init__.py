"""Frames from sources, through the loop, to outputs. The package can be called: then it is ``edgedet.run``."""

from .. import make_callable

make_callable(__name__)
