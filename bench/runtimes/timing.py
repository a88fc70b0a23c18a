# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what the generators of load wrote to numbers. Runs on the servers' side too, with the standard library alone."""

from __future__ import annotations

import csv
import math
from collections import Counter

PERCENTILES = (50, 95, 99)


def percentile(values: list, share: float) -> float:
    """The smallest value that ``share`` per cent of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)]


def latencies(seconds: list, errors: int) -> dict:
    """Milliseconds; an error is a request that is never answered, and where that is a percentile there is None."""
    all_of_them = [*seconds, *[math.inf] * errors]
    found = {f"p{share}": percentile(all_of_them, share) * 1000 if all_of_them else math.inf for share in PERCENTILES}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def most_frequent(errors: list) -> str:
    return Counter(errors).most_common(1)[0][0] if errors else ""


def constant_rate(lines, rate: float) -> dict:
    """What Vegeta's CSV says of a load at a constant rate, with every request's time from when it was due.

    A generator that is late, because it waits for a processor or for an answer, would leave out just the time that a user waits.
    """
    rows = [(int(row[8]), int(row[0]) / 1e9, int(row[1]), int(row[2]) / 1e9, row[5]) for row in csv.reader(lines)]
    begin = min(at - number / rate for number, at, *_rest in rows)
    lags = [at - begin - number / rate for number, at, *_rest in rows]
    answered = [lag + took for lag, (_number, _at, code, took, _error) in zip(lags, rows) if code == 200]
    failed = [f"{code} {error}".strip() for _number, _at, code, _took, error in rows if code != 200]
    until = max(at + took for _number, at, _code, took, _error in rows)
    # A step lasts as long as it should, or until the last answer of those that came late.
    lasted = max(len(rows) / rate, until - begin)
    return {
        "rate": rate,
        "sent": len(rows),
        "errors": len(failed),
        "error": most_frequent(failed),
        "throughput": len(answered) / lasted,
        **latencies(answered, len(failed)),
        "lag_p99": percentile(lags, 99) * 1000,
    }


def closed_loop(rows: list, begin: float, end: float, late_s: float) -> dict:
    """Of requests (when it began, seconds, what went wrong) those that began and ended while all users were there."""
    inside = [row for row in rows if begin <= row[0] and row[0] + row[1] <= end]
    answered = [took for _at, took, error in inside if not error]
    failed = [error for _at, _took, error in inside if error]
    return {
        "sent": len(inside),
        "errors": len(failed),
        "error": most_frequent(failed),
        "late": sum(took > late_s for took in answered),
        "throughput": len(answered) / (end - begin),
        **latencies(answered, len(failed)),
    }
