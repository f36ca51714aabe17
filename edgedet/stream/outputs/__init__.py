"""Where do results go: pictures, recordings, JSON lines, systemd?"""
