"""Drawn people: Mini-AVA and Mini-Kinetics, data sets whose every label is known by construction."""
