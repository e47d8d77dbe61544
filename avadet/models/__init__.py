"""Networks: backbones, heads, the two complete models, losses, weights and costs."""

# They register their heads.
from avadet.models import bank_head as bank_head
from avadet.models import relation as relation
