"""Other programs that run files of edgedet, each as a function from a picture to boxes (scripts/check_interop.py)."""
