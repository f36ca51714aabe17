"""Where in a picture did something change, so that only that is looked at? The gate before the detector."""
