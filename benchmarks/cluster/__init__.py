"""Work in shards on several processes or machines, by Ray; results are those of one process, to the last bit."""
