"""Networks: backbones, heads, the two complete models, losses, weights and costs."""
