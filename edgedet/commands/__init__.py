"""One file a command: options, one call of the library, what is printed. Imported by the table in edgedet.cli only."""
