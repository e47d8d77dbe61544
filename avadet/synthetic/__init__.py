"""Drawn people: Mini-AVA and Mini-Kinetics, whose every label is known by construction."""
