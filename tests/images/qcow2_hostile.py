# SPDX-License-Identifier: BSD-3-Clause
"""The catalogue of hostile qcow2 images: every case of every part.

A new hostile image is a line of data in one of the parts.
"""

import qcow2_hostile_cut
import qcow2_hostile_entries
import qcow2_hostile_extensions
import qcow2_hostile_header
import qcow2_hostile_snapshots
import qcow2_hostile_streams

PARTS = {part.__name__.removeprefix("qcow2_hostile_"): part.cases for part in (
    qcow2_hostile_header, qcow2_hostile_extensions, qcow2_hostile_entries,
    qcow2_hostile_streams, qcow2_hostile_snapshots, qcow2_hostile_cut)}
CASES = [case for cases in PARTS.values() for case in cases]
