"""The numbers: AVA frame-mAP under six named protocols, persons, Charades, top-k and tubes.

Nothing here imports torch. ``python -m avadet.evaluation --help`` lists the commands; in Python
start at :func:`avadet.evaluation.ava.frame_map`.
"""
