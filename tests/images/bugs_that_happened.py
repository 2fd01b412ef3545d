# SPDX-License-Identifier: BSD-3-Clause
"""Bugs of other image tools, and the tests that keep platter from them.

The keys are the rows of the reliability sheet (2A parsers, 2B NBD, 2E the image
as an attack on the host, 2F corruption without an attacker), in its order.
Values:

    path::test     a test of this tree
    hostile: NAME  the hostile images whose names start so
    waits: WHY     what of the row belongs to parts that do not exist yet
"""

ANSWERS = "tests/hostile/test_qcow2_answers.py::test_answer"
RAW = "tests/hostile/test_raw_answers.py::"
NAMES = "tests/hostile/test_names.py::"
BOUNDS = "tests/hostile/test_work_is_bounded.py::"
CLI = "tests/cli/"
MINE = "tests/cli/test_bugs_that_happened.py::"
UNIT = "tests/unit/"
VMDK = "waits: there is no VMDK driver; info names the format and refuses"
VDI = "waits: there is no VDI driver; info names the format and refuses"
LUKS = "waits: encryption is not supported; such images are not read"
SNAPSHOTS = "waits: nothing makes, applies or deletes snapshots yet"
VERDICTS = "tests/cli/test_inspect_verdicts.py::"
UNTRUSTED = "tests/interop/test_untrusted_commands.py::"
NBD = "tests/interop/"
HANDSHAKE = NBD + "test_serve_handshake.py::"
REQUESTS = NBD + "test_serve_requests.py::"
TLS = NBD + "test_serve_tls.py::"
HOSTILE_SERVERS = CLI + "test_nbd_client_survives_servers.py::"
DATA_FILE = "waits: external data files are not supported; never opened"
COMMIT = "waits: commit and rebase"

PARSERS = {
    "CVE-2008-0928": [
        MINE + "test_nothing_behind_the_end_is_reached",
        UNIT + "test_raw.c::nothing_outside_a_window_is_reached",
        UNIT + "test_bytes.c::ranges_never_wrap",
        REQUESTS + "test_past_the_end"],
    "CVE-2008-2004, 79368c81, 38f3ef57": [
        RAW + "test_a_guessed_disk_cannot_turn_into_another_format",
        RAW + "test_a_guessed_disk_cannot_be_completed",
        UNIT + "test_probe.c::the_guard_sees_what_the_probe_sees"],
    "CVE-2014-0142": [
        "hostile: cluster_bits", "hostile: every cluster_bits",
        "hostile: refcount_order", "hostile: every refcount_order",
        "hostile: bitmap, granularity"],
    "CVE-2014-0143": [
        "hostile: l1_size and l1_off",
        "hostile: reftable_clusters and reftable_off",
        "hostile: snapshot_count and snapshots_off",
        UNIT + "test_bytes.c::products_that_wrap_are_noticed"],
    "CVE-2014-0144": [
        "hostile: header_len", "hostile: backing_off", "hostile: backing_len",
        "hostile: reftable_clusters", "hostile: snapshot_count",
        "hostile: l1_size", "hostile: extension", ANSWERS, VDI],
    "CVE-2014-0145": [
        "hostile: snapshot, L1 table of", ANSWERS, SNAPSHOTS],
    "CVE-2014-0146": ["tests/fault/fault_open_snapshots.c::run_way"],
    "CVE-2014-0147": [
        "hostile: L2 entry", "hostile: zero entry", "hostile: packed entry",
        MINE + "test_freeing_beyond_the_counts_is_an_error", SNAPSHOTS],
    "CVE-2014-0148": [
        ANSWERS, "hostile: cluster_bits", "hostile: size",
        BOUNDS + "test_a_huge_empty_disk_takes_no_time"],
    "CVE-2014-0222/0223": [
        RAW + "test_answer_to_raw_file",
        "waits: qcow of version 1 has no driver; named and refused"],
    "13c4941c": [VMDK],
    "951053a9, 6bf45d59, 98839750, 8aa34834, ff52aab2": [
        "hostile: reftable_clusters", "hostile: count of cluster",
        MINE + "test_a_table_with_count_zero_is_not_handed_out",
        UNIT + "test_qcow2_write.c::a_table_is_not_made_over_another_table",
        UNIT + "test_qcow2_write.c::an_image_without_counts_is_not_written"],
    "a5fff8d4, iotest 138": [
        "hostile: L2 entry", "hostile: L1 entry",
        UNIT + "test_qcow2_check.c::entries_far_away_take_no_memory"],
    "db5794f1, 0c2ada81, iotest 080/261": [
        "hostile: snapshot, L1 table at", "hostile: snapshot, L1 table of",
        "hostile: snapshot, extra data", "hostile: snapshot table at",
        BOUNDS + "test_many_hostile_snapshots_are_checked_fast", SNAPSHOTS],
    "e39e959e, 2022 series": ["hostile: encryption header", LUKS],
    "CVE-2024-4467": [
        ANSWERS, "hostile: data file name", "hostile: backing name",
        NAMES + "test_info_opens_nothing_that_the_image_names",
        NAMES + "test_the_trace_sees_what_is_opened"],
    "CVE-2015-5162, CVE-2018-10908": [
        ANSWERS, UNTRUSTED + "test_memory_and_time_have_ends"],
    "CH 29720f07": [
        "hostile: size", BOUNDS + "test_a_huge_empty_disk_takes_no_time",
        BOUNDS + "test_a_rebuild_is_no_larger_than_its_file"],
    "CH a667d850, 4a2a9390, 4294a4b8, 55fa8ac9": [
        "hostile: L2 entry", "hostile: backing_off",
        "hostile: backing_len and backing_off", "hostile: extension"],
    "CH d1868f63": ["hostile: L2 entry", "hostile: L1 entry",
                    "hostile: packed entry", VDI],
    "crosvm b713737f, 4ba1d227, a1f408a2 in CH": [
        "hostile: l1_size", "hostile: l1_off", "hostile: reftable_off",
        "tests/fuzz/fuzz_qcow2_image.c::LLVMFuzzerTestOneInput"],
    "07ee2ab4": [VDI],
    "CVE-2018-25032, CVE-2022-37434": [
        UNIT + "test_codec_hostile.c::damaged_streams_stay_in_bounds",
        UNIT + "test_codec_hostile.c::bombs_do_not_go_off",
        "tests/fuzz/fuzz_codec.c::LLVMFuzzerTestOneInput",
        "hostile: stream", "hostile: zstd",
        "waits: least versions of the libraries are not pinned"],
}

SERVERS = {
    "CVE-2017-7539, CVE-2017-9524, CVE-2013-7441, 0c9390d9": [
        NBD + "test_serve_handshake_orders.py::"
        "test_clients_leave_at_every_byte_they_say",
        NBD + "test_serve_handshake_orders.py::"
        "test_clients_leave_at_every_byte_they_hear",
        NBD + "test_serve_tls_hostile.py::"
        "test_a_client_may_leave_at_any_byte"],
    "CVE-2017-15118, CVE-2022-26496": [
        HANDSHAKE + "test_export_name_of_nothing_ends_it",
        HANDSHAKE + "test_names_of_all_lengths"],
    "CVE-2022-26495": [
        HANDSHAKE + "test_malformed_go_is_invalid",
        HANDSHAKE + "test_malformed_meta_is_invalid",
        HANDSHAKE + "test_too_much_data_ends_it"],
    "CVE-2017-15119": [HANDSHAKE + "test_too_much_data_ends_it"],
    "CVE-2020-10761": [
        HANDSHAKE + "test_names_of_all_lengths",
        UNIT + "test_quote.c::long_names_are_cut_between_units"],
    "CVE-2017-2630": [HOSTILE_SERVERS + "test_a_bad_answer_fails_the_copy"],
    "CVE-2021-3716": [
        TLS + "test_what_the_clear_agreed_on_is_forgotten",
        TLS + "test_selection_of_the_clear_is_forgotten",
        TLS + "test_bytes_behind_starttls_are_not_executed"],
    "CVE-2019-14842, CVE-2024-7383": [
        NBD + "test_nbd_client_tls.py::test_no_server_without_tls_is_read",
        NBD + "test_nbd_client_tls.py::"
        "test_who_cannot_be_verified_is_not_asked",
        TLS + "test_clients_see_a_wrong_server"],
    "libnbd 2019-10 RCE": [
        HOSTILE_SERVERS + "test_a_bad_answer_fails_the_copy",
        "tests/fuzz/fuzz_nbd_client.c::LLVMFuzzerTestOneInput"],
    "CVE-2019-14850/14851": [
        NBD + "test_serve_handshake_orders.py::"
        "test_every_order_of_four_options",
        TLS + "test_only_the_right_clients_come_in"],
    "CVE-2021-20286, CVE-2023-5871, CVE-2023-5215": [
        HOSTILE_SERVERS + "test_a_bad_handshake_is_refused",
        HOSTILE_SERVERS + "test_a_bad_answer_fails_the_copy"],
    "CVE-2022-0485": [
        NBD + "test_nbd_client_errors.py::test_a_read_that_fails_fails_the_copy",
        NBD + "test_nbd_client_errors.py::"
        "test_a_write_that_fails_fails_the_copy"],
    "CVE-2024-7409": [
        NBD + "test_serve_clients.py::"
        "test_clients_never_keep_a_server_from_stopping",
        TLS + "test_clients_never_keep_a_server_from_stopping"],
    "CVE-2025-47711/47712": [
        REQUESTS + "test_status_of_a_disk_larger_than_four_gigabytes"],
    "CVE-2025-14946": [
        UNIT + "test_nbd_address.c::a_host_is_never_an_option"],
    "CVE-2005-3534, CVE-2011-0530, CVE-2013-6410, CVE-2015-0847": [
        REQUESTS + "test_past_the_end",
        REQUESTS + "test_too_large_a_write_ends_it",
        NBD + "test_serve_clients.py::test_only_the_owner_may_connect"],
    "29b6c3b3": [REQUESTS + "test_a_refused_payload_is_no_request"],
    "df7b97ff, 353ab969": [
        REQUESTS + "test_any_offset_and_length",
        REQUESTS + "test_writes_are_exact_to_the_byte",
        REQUESTS + "test_zeroes_and_trims"],
    "65529782, ef8c887e, 73e064cc, 737d3f52": [
        UNIT + "test_queue.c::durable_changes_are_synced",
        REQUESTS + "test_no_length_is_no_error",
        REQUESTS + "test_block_status",
        REQUESTS + "test_an_odd_file_ends_in_zeros"],
}

ORCHESTRATION = {
    "CVE-2010-2237/2238/2239": [
        MINE + "test_a_base_without_format_is_not_guessed_below_a_folder",
        CLI + "test_create_matches_qemu_img.py::test_texts_that_programs_read",
        "waits: without --trust-dir a missing format is guessed, as qemu-img "
        "does"],
    "CVE-2013-2096, CVE-2013-4463/4469": [
        "hostile: size", UNIT + "test_codec_hostile.c::bombs_do_not_go_off",
        VERDICTS + "test_limits_on_sizes"],
    "CVE-2014-3641, CVE-2015-5163, CVE-2015-7548": [
        RAW + "test_answer_to_raw_file",
        VERDICTS + "test_a_raw_disk_with_a_header_in_it",
        VERDICTS + "test_the_declared_format_is_the_found_one",
        UNTRUSTED + "test_a_raw_disk_with_a_header_is_refused"],
    "CVE-2022-47951": [
        RAW + "test_answer_to_raw_file", VERDICTS + "test_vmdk_descriptors",
        VERDICTS + "test_vmdk_descriptor_files", VMDK],
    "CVE-2024-32498": [
        "hostile: data file name", ANSWERS,
        VERDICTS + "test_qcow2_that_names_files"],
    "CVE-2024-40767, CVE-2024-44082": [
        UNTRUSTED + "test_what_is_not_safe_is_refused",
        UNTRUSTED + "test_no_file_but_the_operands_is_opened"],
    "CVE-2026-24708": [
        RAW + "test_answer_to_raw_file",
        MINE + "test_a_given_format_is_never_probed",
        "waits: without -f commands guess, as qemu-img does; a guess of raw "
        "is guarded"],
    "CVE-2026-27211": [
        RAW + "test_a_guessed_disk_cannot_turn_into_another_format",
        RAW + "test_a_guessed_disk_cannot_be_completed",
        RAW + "test_discarding_uncovers_nothing"],
    "c2d76497, CVE-2013-0249": [
        "hostile: backing name",
        MINE + "test_nothing_is_kept_in_a_folder_for_temporary_files",
        UNIT + "test_output.c::a_file_that_came_meanwhile_is_kept",
        UNIT + "test_opener.c::names_that_are_no_paths_are_refused"],
}

CORRUPTION = {
    "38c4d0aa, c4875e5b": [
        MINE + "test_what_was_just_written_is_copied",
        MINE + "test_extents_are_never_asked_for_by_fiemap"],
    "ZFS #15526, #15933, #11900; a03083a0": [
        CLI + "test_holes_that_lie.py::test_distrust_reads_every_byte",
        CLI + "test_holes_that_lie.py::test_odd_answers_are_taken_for_data",
        UNIT + "test_storage_file.c::odd_answers_about_holes_mean_data"],
    "292d06b9": [
        UNIT + "test_storage.c::zeroing_past_the_end_writes_no_data",
        UNIT + "test_storage.c::appending_threads_cut_nothing_off",
        "waits: XFS under load, in a virtual machine"],
    "118f9944, bae127d4, ece4fa91, CH d7a7d736": [
        UNIT + "test_storage_file.c::"
        "every_failure_to_zero_falls_back_to_writing",
        UNIT + "test_storage_file.c::unsupported_calls_are_made_once"],
    "5e978550": [
        UNIT + "test_image_threads.c::writers_of_one_cluster_lose_nothing",
        UNIT + "test_range_lock.c::no_update_is_lost_in_a_storm"],
    "c8bf9a91": [
        "tests/crash/crash_qcow2.c::main",
        "tests/differential/run.py::main",
        COMMIT],
    "CH #8624, ecbda7a2": [
        "tests/crash/crash_qcow2.c::main", "tests/fault/fault_qcow2.c::main"],
    "CH #8606, #8637, #8721, #8748": [
        "tests/fault/fault_qcow2.c::main",
        CLI + "test_full_disk_keeps_what_was_there.py::"
        "test_guest_writes_fail_and_go_on_later"],
    "CH #8358, 17b6fd91, 6f19d007, 9bc367a2": [
        MINE + "test_files_are_read_and_written_at_positions_only",
        "tests/interop/test_writes_side_by_side.py::"
        "test_writes_side_by_side_keep_apart"],
    "CH 1dfb02aa": [MINE + "test_first_write_lands_where_it_belongs"],
    "CH #8597": [MINE + "test_rewriting_does_not_grow_the_file"],
    "54e68143, f0ab6f10, iotest 011/046": [
        UNIT + "test_image_threads.c::writers_of_one_cluster_lose_nothing",
        "waits: a scheduler that tries all interleavings"],
    "f24423bd, 25408c09, 86fa8da8": [
        "tests/fault/fault_qcow2.c::main",
        UNIT + "test_table_cache.c::failed_writes_leave_units_dirty",
        UNIT + "test_table_cache.c::failed_reads_are_not_remembered"],
    "16fde5f2, 35d7ace7": ["tests/crash/crash_qcow2.c::main", SNAPSHOTS],
    "78a52ad5, f575f145, 4823cde5": [
        "tests/differential/run.py::main",
        "tests/interop/test_backing_chains.py::"
        "test_each_layer_shows_through"],
    "d1b9d19f, iotest 250/270": [
        MINE + "test_requests_around_two_gib_are_whole",
        CLI + "test_io_matches_qemu_io.py::"
        "test_long_requests_are_done_in_pieces"],
    "77d6a215, iotest 220": [
        MINE + "test_packed_clusters_do_not_outgrow_their_descriptor",
        UNIT + "test_qcow2_layout.c::packed_descriptors_come_back"],
    "c3b6658c, 93e32b3e, iotest 244/289": [DATA_FILE],
    "b1649fae, 61f0ed1d, 5e82a31e, a77672ea, bedb8bb4": [VMDK],
    "5279efeb, 0a28bf28, dbdf699c": [
        CLI + "test_convert_copies_disks.py::test_overwrites_a_dirty_target"],
    "cc60e327, qemu-img rebase 2023 series": [
        "tests/interop/test_backing_chains.py::test_base_of_another_length",
        COMMIT],
    "391827eb": [
        UNIT + "test_range_lock.c::only_overlapping_ranges_conflict",
        UNIT + "test_storage.c::neighbours_in_a_block_lose_nothing"],
    "4ffca890": [MINE + "test_nothing_shrinks_by_accident"],
    "4c2e5f8f, iotest 039": [
        UNIT + "test_qcow2_check.c::dirty_image_is_mended_when_opened",
        MINE + "test_lazy_counts_are_dirty_only_after_a_kill"],
    "e5bcf967, PostgreSQL 2018": [
        UNIT + "test_storage.c::a_failed_sync_is_never_forgotten",
        UNIT + "test_storage_file.c::sync_errors_stick"],
    "section 1 findings": [
        "tests/crash/crash_qcow2.c::main",
        "tests/interop/test_resize.py::test_cut_bytes_never_come_back",
        VDI, VMDK],
}

ROWS = {**PARSERS, **SERVERS, **ORCHESTRATION, **CORRUPTION}
# Rows in each part of the sheet: one that is left out is noticed.
COUNTS = {"2A": (PARSERS, 23), "2B": (SERVERS, 19), "2E": (ORCHESTRATION, 9),
          "2F": (CORRUPTION, 26)}
