"""Figures of arrays: distances, classifiers, estimates with their errors."""
