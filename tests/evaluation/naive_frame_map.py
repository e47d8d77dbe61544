"""A second, deliberately slow frame-mAP: dictionaries and loops, no numpy.

It follows the description of the protocols in ``evaluation/README.md`` and shares no code with the
product. Rows are (video, time text, x1, y1, x2, y2, class, score or None).
"""

from __future__ import annotations

import heapq
from collections import defaultdict


def key(video, time, protocol):
    if protocol in ("official", "head"):
        return f"{video},{float(time):.6f}"
    return f"{video},{int(time):04d}"


def iou(a, b):
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    area_a = (a[3] - a[1]) * (a[2] - a[0])
    area_b = (b[3] - b[1]) * (b[2] - b[0])
    union = area_a + area_b - height * width
    return height * width / union if union else 0.0


def read(rows, classes, protocol, cap):
    frames = defaultdict(list)
    for video, time, x1, y1, x2, y2, label, score in rows:
        if label not in classes:
            continue
        entry = (1.0 if score is None else score, label, y1, x1, y2, x2)
        entries = frames[key(video, time, protocol)]
        if protocol in ("official", "head", "r2019"):
            if not cap or len(entries) < cap:
                heapq.heappush(entries, entry)
            elif entry[0] > entries[0][0]:
                heapq.heapreplace(entries, entry)
        else:
            entries.append(entry)
    if protocol not in ("r2018", "pyslowfast"):
        frames = {name: sorted(rows, key=lambda e: -e[0]) for name, rows in frames.items()}
    return frames


def score(groundtruth, detections, classes, excluded=(), protocol="official"):
    """Returns {class: (lowest AP, highest AP) or None}; detections of one class may tie."""
    banned = {key(v, t, protocol) for v, t in excluded} if protocol != "head" else set()
    everything = {key(row[0], row[1], protocol) for row in groundtruth}
    truth = read(
        [(*row[:7], None) if protocol == "pyslowfast" else row for row in groundtruth],
        classes,
        protocol,
        0,
    )
    found = read(detections, classes, protocol, 50)
    if protocol != "mmaction2":
        truth = {name: rows for name, rows in truth.items() if name not in banned}
    num_gt, results = defaultdict(int), defaultdict(list)
    for rows in truth.values():
        for entry in rows:
            num_gt[entry[1]] += 1
    for name, rows in found.items():
        if name in banned:
            continue
        if protocol in ("official", "head") and name not in everything:
            continue
        if protocol == "mmaction2" and name not in truth:
            continue
        if protocol == "r2018":
            rows = sorted((e for e in rows if e[0] > -10), key=lambda e: -e[0])
        taken = set()
        for mark, label, y1, x1, y2, x2 in rows:
            if not (x1 < x2 and y1 < y2):
                continue
            best, place = -1.0, None
            for index, other in enumerate(truth.get(name, [])):
                if other[1] == label:
                    value = iou((x1, y1, x2, y2), (other[3], other[2], other[5], other[4]))
                    if value > best:
                        best, place = value, index
            hit = best >= 0.5 and place not in taken
            if hit:
                taken.add(place)
            results[label].append((mark, hit))
    answer = {}
    for label in classes:
        marks = results[label]
        if not num_gt[label] or (protocol == "mmaction2" and not marks):
            answer[label] = None
            continue
        low = area(sorted(marks, key=lambda m: (-m[0], m[1])), num_gt[label])
        high = area(sorted(marks, key=lambda m: (-m[0], not m[1])), num_gt[label])
        answer[label] = (low, high)
    return answer


def area(marks, num_gt):
    points, found = [], 0
    for place, (_, hit) in enumerate(marks, start=1):
        found += hit
        points.append((found / num_gt, found / place))
    total, before = 0.0, 0.0
    for index, (recall, _) in enumerate(points):
        if recall != before:
            total += (recall - before) * max(p for _, p in points[index:])
            before = recall
    return total
