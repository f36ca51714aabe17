"""Ranges to scales: which tensor is quantised how, and the Q/DQ graphs that say so."""
