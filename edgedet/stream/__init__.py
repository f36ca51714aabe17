"""From a source of frames to sinks: sources, the loop, outputs and the run command."""
