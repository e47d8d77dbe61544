"""Everybody's weights: reading, recognising and converting them."""
