"""How many cameras does one detector serve, with and without the motion gate? See docs/motion.md."""
