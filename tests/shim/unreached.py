# SPDX-License-Identifier: BSD-3-Clause
"""Places whose calls the injector cannot make fail, and why."""

AFTER = "only after another failure"
DEVICE = "block devices only"
PEER = "NBD: the scenarios have no server and no client"
DIRECT = "O_DIRECT, which tmpfs has not"

# By function and callee, or by function.
REASONS = {
    "admit_growth": AFTER,
    "remove_temp": AFTER,
    "replacement_fd close": AFTER,
    "storage_file_from_fd close": AFTER,
    "descriptor_holds": AFTER + ": who holds a lock is looked for",
    "find_holder": AFTER + ": who holds a lock is looked for",
    "read_program": AFTER + ": who holds a lock is looked for",
    "same_file": AFTER + ": who holds a lock is looked for",
    "read_device_size": DEVICE,
    "do_range_ioctl": DEVICE,
    "queue_limit": DEVICE,
    "bounce_new": DIRECT,
    "probe_align": DIRECT,
    "pread": DIRECT,
    "ask_statx": DIRECT,
    "excess_add": "a cluster with more than 65,535 references",
    "plan_run": "tables of more than one slice",
    "carry_over fchown": "an old target of another owner",
    "truncate_regular": "no command opens files so",
    "storage_file_open unlink": "no command opens files so",
    "qcow2_header_write": "no command writes whole headers",
    "decode_unknown": "a header longer than the fields that are known",
    "unit_get": "more threads than the cache of tables has places",
    "refuse_protocol": "ends in a refusal whatever happens",
    "cpu_time_is_up": "a time limit that is exceeded",
    "set_nbd": PEER,
    "close_subject": "a named pipe",
    "open_subject": "a named pipe",
    "file_device_zero": DEVICE,
    "file_reserve": "file systems where large writes reserve first",
    "read_link": "a target that is a symbolic link",
    "skip_to": "a stream with metadata behind its first 64 KiB",
    "fetch_piece": "an image with metadata behind its first 64 KiB",
    "make_slot": "dry runs that change more than a few MiB",
    "open_and_unlink": "file systems that cannot make unnamed files",
    "note_shared": "tables that several places of the same image share",
    "close_between": "descriptors between those that are kept",
    "batch_reserve": "more than a thousand L2 tables with a long L1 table",
}


# By the start of the file's name.
AREAS = {
    "block/library": PEER,
    "block/queue": PEER,
    "block/storage/file-map": PEER,
    "block/storage/nbd": PEER,
    "block/worker-pool": PEER,
    "cli/config": PEER,
    "cli/listen": PEER,
    "cli/notify": PEER,
    "cli/qemu-nbd": PEER,
    "cli/serve": PEER,
    "nbd-server/": PEER,
}


def why_unreached(functions, callee, line):
    """`functions`: the innermost first, then those that it is inlined into;
    `line`: "file:number"."""
    for start, reason in AREAS.items():
        if line.startswith(start):
            return reason
    for function in functions:
        reason = REASONS.get(f"{function} {callee}", REASONS.get(function))
        if reason:
            return reason
    return None
