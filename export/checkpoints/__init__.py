"""Weight files of any code base to edgedet's own checkpoint."""
