"""One file a command: it reads options, calls the library and prints. Only the table in ``edgedet.cli`` names them."""
