"""Networks: backbones, heads, the two complete models, losses, weights and costs."""

from avadet.models import relation as relation  # it registers its head
