"""Benchmarks on other machines over SSH: what is copied there, what runs there, and one table of all."""
