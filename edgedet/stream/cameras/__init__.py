"""How is a camera, stream or video opened, read and kept alive?"""
