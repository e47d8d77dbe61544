"""Training and inference: one visible loop and the parts that it calls."""
