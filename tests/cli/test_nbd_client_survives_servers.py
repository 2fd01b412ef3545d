# SPDX-License-Identifier: BSD-3-Clause
"""NBD servers that break the protocol: an error, no crash, no wrong bytes."""

import os
import signal
import struct
import subprocess
import time

import hostile_nbd as h
import pytest
from hostile_nbd import Script

URI = "nbd+unix:///?socket=s"
MAX32, MAX64 = 2**32 - 1, 2**64 - 1


@pytest.fixture
def server(tmp_path):
    found = h.HostileServer(tmp_path / "s")
    yield found
    if found.thread.is_alive():
        found.stop()


def copy(platter):
    return platter(["convert", "-f", "raw", "-O", "raw", URI, "out"])


def refused(platter, tmp_path):
    """The copy fails with one message, and leaves nothing."""
    result = copy(platter)
    assert result.status == 1, result
    assert result.err.startswith("platter: "), result
    assert "anitizer" not in result.err, result
    assert all(c == "\n" or c.isprintable() for c in result.err), result
    assert not (tmp_path / "out").exists()
    return result.err


def good(platter, tmp_path, size=h.SIZE):
    result = copy(platter)
    assert result.status == 0 and not result.err, result
    assert (tmp_path / "out").read_bytes() == h.content(0, size)


def test_a_server_without_fault(server, platter, tmp_path):
    """Else the tests below would prove nothing."""
    server.start(Script())
    good(platter, tmp_path)


# --- the handshake -----------------------------------------------------------


def go(*infos, end=h.reply(h.OPT_GO, h.ACK)):
    return {"go": b"".join(h.reply(h.OPT_GO, h.INFO, info) for info in infos)
            + end}


HANDSHAKES = {
    "no magic": {"greeting": b"\0" * 18},
    "oldstyle": {"greeting": b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53"
                             + bytes(136)},
    "size of 2^63": go(h.export(2**63)),
    "size of 2^63 - 1": go(h.export(2**63 - 1)),
    "size of 2^63 - 512": go(h.export(2**63 - 512)),
    "largest size": go(h.export(MAX64)),
    "no export": go(),
    "short export": go(h.export()[:-1]),
    "long export": go(h.export() + b"\0"),
    "refused": go(end=h.reply(h.OPT_GO, 0x80000006, b"gone\x1b[2J\n")),
    "refused at length": go(end=h.reply(h.OPT_GO, 0x80000006, b"x" * 5000)),
    "refused with the largest length": go(
        end=h.reply(h.OPT_GO, 0x80000006, length=MAX32)),
    "unknown reply": go(h.export(), end=h.reply(h.OPT_GO, 99)),
    "reply to another option": go(h.export(), end=h.reply(6, h.ACK)),
    "wrong magic of a reply": go(h.export(), end=h.reply(
        h.OPT_GO, h.ACK, magic=1)),
    "largest length": go(h.export(), end=h.reply(h.OPT_GO, h.ACK,
                                                 length=MAX32)),
    "structured replies with data": {"structured": h.reply(
        h.OPT_SR, h.ACK, length=MAX32)},
    "context with the largest length": {"meta": h.reply(
        h.OPT_META, h.META, length=MAX32)},
    "size that is no block": go(h.export(1000), h.blocks(512, 512, 2**20)),
}


@pytest.mark.parametrize("parts", HANDSHAKES.values(), ids=HANDSHAKES)
def test_a_bad_handshake_is_refused(server, platter, tmp_path, parts):
    server.start(Script().with_(**parts))
    refused(platter, tmp_path)


@pytest.mark.parametrize("sizes", [(0, 0, 0), (3, 512, 2**20),
                                   (2**31, 2**31, 2**31), (131072,) * 3,
                                   (512, 512, MAX32), (1, 1, 1),
                                   (4096, 512, 2**20), (65536, 65536, 4096)])
def test_odd_block_sizes_do_no_harm(server, platter, tmp_path, sizes):
    """Refused, or corrected: the bytes are right in either case."""
    server.start(Script().with_(**go(h.export(), h.blocks(*sizes))))
    result = copy(platter)
    assert result.status in (0, 1) and "anitizer" not in result.err, result
    if result.status == 0:
        assert (tmp_path / "out").read_bytes() == h.content(0, h.SIZE)
    else:
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [0, 1, 513])
def test_small_exports(server, platter, tmp_path, size):
    server.start(Script().with_(**go(h.export(size))))
    result = copy(platter)
    assert result.status == 0, result
    whole = -(-size // 512) * 512
    assert (tmp_path / "out").read_bytes() == h.content(0, size).ljust(
        whole, b"\0")


def test_another_answer_on_the_next_connection(server, platter, tmp_path):
    """Smaller, and with other bytes: it must not be used for the same disk."""
    flags, size = h.FLAGS | 0x100, 2**23  # CAN_MULTI_CONN
    first = Script().with_(**go(h.export(size, flags)))
    other = Script().with_(**go(h.export(size - 512, flags)))
    other.read = lambda cookie, offset, length: h.data(
        cookie, offset, b"\1" * length)
    server.start(first, other)
    good(platter, tmp_path, size)
    server.stop()
    assert server.served == 2


@pytest.mark.parametrize("flags, least, most", [(h.FLAGS, 1, 1),
                                                (h.FLAGS | 0x100, 2, 4)])
def test_several_connections_only_if_they_see_the_same(
        server, platter, tmp_path, flags, least, most):
    """CAN_MULTI_CONN; with eight threads there is a use for them."""
    size = 2**24
    server.start(Script().with_(**go(h.export(size, flags))))
    result = platter(["convert", "-m", "8", "-W", "-f", "raw", "-O", "raw",
                      URI, "out"])
    assert result.status == 0 and not result.err, result
    assert (tmp_path / "out").read_bytes() == h.content(0, size)
    server.stop()
    assert least <= server.served <= most


def test_the_end_at_every_byte(server, platter):
    """Of the handshake and of the first answers, in one process."""
    opening = ["-c", f"open -r -o driver=raw {URI}", "-c", "read -q 0 4k",
               "-c", "close"]
    server.start(Script())
    assert platter(["io", *opening]).status == 0
    server.serving[0].join()
    server.scripts[:] = [Script().with_(most=most)
                         for most in range(1, server.last_sent)] + [Script()]
    count = len(server.scripts) - 1
    result = platter(["io", *(opening * count)])
    assert result.status == 1, result
    assert "anitizer" not in result.err
    failed = result.err.count("can't open") + result.out.count("read failed")
    assert failed == count > 200
    assert platter(["io", *opening]).status == 0


# --- answers -----------------------------------------------------------------

READS = {
    "wrong cookie": lambda c, o, n: h.data(c ^ 1, o, h.content(o, n)),
    "simple reply": lambda c, o, n: struct.pack(
        ">IIQ", 0x67446698, 0, c) + h.content(o, n),
    "wrong magic": lambda c, o, n: h.chunk(c, h.NONE, magic=1),
    "no data": lambda c, o, n: h.chunk(c, h.NONE),
    "data without a length": lambda c, o, n: h.chunk(c, h.OFFSET_DATA),
    "data of no bytes": lambda c, o, n: h.data(c, o, b""),
    "before the request": lambda c, o, n: h.data(c, o - 1 & MAX64, b"x" * n),
    "behind the request": lambda c, o, n: h.data(c, o + 1, b"x" * n),
    "one byte too many": lambda c, o, n: h.data(c, o, b"x" * (n + 1)),
    "one byte too few": lambda c, o, n: h.data(c, o, b"x" * (n - 1)),
    "far behind": lambda c, o, n: h.data(c, MAX64 - 7, b"x" * n),
    "offset of 2^63": lambda c, o, n: h.data(c, 2**63, b"x" * n),
    "largest length": lambda c, o, n: h.chunk(c, h.OFFSET_DATA, b"x" * 8,
                                              length=MAX32),
    "a half twice": lambda c, o, n: h.data(
        c, o, h.content(o, n // 2), 0) + h.data(c, o, h.content(o, n // 2)),
    "a byte twice": lambda c, o, n: h.data(c, o, h.content(o, n - 1), 0)
                                    + h.data(c, o, h.content(o, 1)),
    "hole too large": lambda c, o, n: h.hole(c, o, n + 1),
    "hole of the largest size": lambda c, o, n: h.hole(c, o, MAX32),
    "hole of no size": lambda c, o, n: h.hole(c, o, 0),
    "hole outside": lambda c, o, n: h.hole(c, o + n, 1),
    "hole and no more": lambda c, o, n: h.hole(c, o, n // 2),
    "hole of wrong length": lambda c, o, n: h.chunk(c, h.OFFSET_HOLE, b"x" * 5),
    "unknown chunk": lambda c, o, n: h.chunk(c, 99, b"x" * 9),
    "unknown error chunk": lambda c, o, n: h.chunk(c, 0x8fff,
                                                   struct.pack(">IH", 5, 0)),
    "none with a payload": lambda c, o, n: h.chunk(c, h.NONE, b"x"),
    "none and not done": lambda c, o, n: h.chunk(c, h.NONE, flags=0)
                                         + h.chunk(c, h.NONE),
    "extents": lambda c, o, n: h.extents(c, [(n, 0)]),
    "an error": lambda c, o, n: h.error(c, 5),
    "an error with text": lambda c, o, n: h.error(c, 5, b"bad\x1b[2J"),
    "error 0": lambda c, o, n: h.error(c, 0),
    "unknown error": lambda c, o, n: h.error(c, MAX32),
    "error with a long text": lambda c, o, n: h.error(c, 5, b"x" * 65535),
    "error whose text is cut": lambda c, o, n: h.error(c, 5, b"x",
                                                       text_len=65535),
    "error without its fields": lambda c, o, n: h.chunk(c, h.ERROR, b"x" * 5),
    "error of the largest length": lambda c, o, n: h.chunk(
        c, h.ERROR, length=MAX32),
    "error outside": lambda c, o, n: h.chunk(
        c, h.ERROR_OFFSET, struct.pack(">IHQ", 5, 0, o + n)),
    "data, then an error": lambda c, o, n: h.data(c, o, b"x" * n, 0)
                                           + h.error(c, 5),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_bad_answer_fails_the_copy(server, platter, tmp_path, read):
    server.start(Script().with_(read=read))
    refused(platter, tmp_path)


GOOD_READS = {
    "two pieces, the last first": lambda c, o, n: h.data(
        c, o + 512, h.content(o + 512, n - 512), 0)
        + h.data(c, o, h.content(o, 512)),
    "done alone": lambda c, o, n: h.data(c, o, h.content(o, n), 0)
                                  + h.chunk(c, h.NONE),
}


@pytest.mark.parametrize("read", GOOD_READS.values(), ids=GOOD_READS)
def test_an_answer_in_pieces(server, platter, tmp_path, read):
    server.start(Script().with_(read=read))
    good(platter, tmp_path)


# --- answers that wait -------------------------------------------------------


class Waiting(Script):
    """Answers the request at offset 0 only after one of another kind, or of
    the last sector, has come as a whole; no others wait."""

    go = go(h.export(h.SIZE * 64))["go"]
    first = b""

    def read(self, cookie, offset, length):
        answer = super().read(cookie, offset, length)
        if offset == 0:
            self.first = answer
            return b""
        return answer + self.release() if offset == 1024 else answer

    def write(self, cookie, offset, length):
        return super().write(cookie, offset, length) + self.release()

    def release(self):
        released, self.first = self.first, b""
        return released


def run_io(platter, *lines):
    words = [word for line in lines for word in ("-c", line)]
    result = platter(["io", "-f", "raw", *words, URI])
    assert result.status == 0 and not result.err, result
    assert "failed" not in result.out, result


def test_a_request_does_not_wait_for_an_answer_to_another(server, platter):
    """All of it is sent, though the socket has no room for it at once."""
    server.start(Waiting())
    run_io(platter, "aio_read -q 0 512", "sleep 100", "aio_write -q 4096 2M",
           "aio_flush")


def test_an_answer_wakes_who_waits_for_it(server, platter):
    """The one in the middle is not held up by the first, which the last sets
    free."""
    server.start(Waiting())
    run_io(platter, "aio_read -q 0 512", "sleep 100", "read -q 512 512",
           "read -q 1024 512", "aio_flush")


# Whatever it says of extents, no byte is lost: what is not clearly a hole is
# read. A connection that this breaks fails the copy.
STATUSES = {
    "no extent": lambda c, o, n: h.extents(c, []),
    "no bytes": lambda c, o, n: h.extents(c, [(0, 3)]),
    "no bytes behind some": lambda c, o, n: h.extents(c, [(512, 0), (0, 3)]),
    "past the request": lambda c, o, n: h.extents(c, [(512, 0), (MAX32, 0)]),
    "many past the request": lambda c, o, n: h.extents(c, [(MAX32, 0)] * 64),
    "of another context": lambda c, o, n: h.extents(c, [(n, 3)], context=8),
    "nothing": lambda c, o, n: h.chunk(c, h.NONE),
    "an error": lambda c, o, n: h.error(c, 22),
    "of a byte each": lambda c, o, n: h.extents(c, [(1, 0), (1, 1)] * 20000),
    "hole that is not zero": lambda c, o, n: h.extents(c, [(n, 1)]),
    "zero that is no hole": lambda c, o, n: h.extents(c, [(n, 2)]),
    "unknown bits": lambda c, o, n: h.extents(c, [(n, MAX32 - 3)]),
    "half an extent": lambda c, o, n: h.chunk(
        c, h.BLOCK_STATUS, struct.pack(">III", h.CONTEXT_ID, n, 0) + b"1234"),
    "data": lambda c, o, n: h.data(c, o, b"x" * n),
    "largest length": lambda c, o, n: h.chunk(c, h.BLOCK_STATUS, length=MAX32),
    "twice": lambda c, o, n: h.extents(c, [(512, 0)], flags=0)
                             + h.extents(c, [(n, 3)]),
}


@pytest.mark.parametrize("status", STATUSES.values(), ids=STATUSES)
def test_odd_extents_lose_no_byte(server, platter, tmp_path, status):
    server.start(Script().with_(status=status))
    result = copy(platter)
    assert result.status in (0, 1) and "anitizer" not in result.err, result
    if result.status == 0:
        assert (tmp_path / "out").read_bytes() == h.content(0, h.SIZE)
    else:
        assert not (tmp_path / "out").exists()


# --- servers that say no more ------------------------------------------------

# Of seconds, so that these tests are short; else it is a minute.
SHORT = f"{URI}&timeout=1&open-timeout=1"
FLUSHES = go(h.export(flags=h.FLAGS | 0x4))["go"]  # SEND_FLUSH
GREETING, OPTION = len(Script.greeting), 20
CUTS = {
    "nothing": (0, "its greeting is missing"),
    "half a greeting": (GREETING // 2, "its greeting is missing"),
    "a greeting": (GREETING, "to the option STRUCTURED_REPLY is missing"),
    "half an answer": (GREETING + OPTION // 2,
                       "to the option STRUCTURED_REPLY is missing"),
    "an answer": (GREETING + OPTION, "to the option META_CONTEXT is"),
    "all but the last": (GREETING + OPTION + len(Script.meta)
                         + len(Script.go) - OPTION,
                         "to the option GO is missing"),
}


@pytest.mark.parametrize("most, told", CUTS.values(), ids=CUTS)
def test_silence_in_the_handshake(server, platter, most, told):
    server.start(Script().with_(most=most, stays=True))
    result = platter(["info", SHORT])
    assert result.status == 1 and not result.out, result
    assert "did not answer within 1.0 seconds: " in result.err
    assert told in result.err and "socket=s" in result.err


def test_a_greeting_in_drips(server, platter):
    """Bytes that come do not make the handshake's time longer."""
    server.start(Script().with_(piece=1, pause=0.2))
    result = platter(["info", SHORT])
    assert result.status == 1 and "its greeting is missing" in result.err


def silence(script, most):
    """It says that much of an answer, and then nothing."""
    def answer(*request):
        part = getattr(Script, script)(Script(), *request)
        return part[:int(len(part) * most)]
    return {script: answer}


SILENT = {
    "no read": (silence("read", 0), ["bench", "-f", "raw", "-c", "1"],
                "a read has no answer"),
    "half a head": (silence("read", 0.0002), ["bench", "-f", "raw", "-c", "1"],
                    "a read has no answer"),
    "half a read": (silence("read", 0.5),
                    ["convert", "-f", "raw", "-O", "raw"],
                    "a read has no answer"),
    "no write": (silence("write", 0), ["io", "-f", "raw", "-c", "write 0 4k"],
                 "a write has no answer"),
    "no extents": (silence("status", 0), ["map", "-f", "raw"],
                   "a question for holes has no answer"),
    "half of the extents": (silence("status", 0.5), ["map", "-f", "raw"],
                            "a question for holes has no answer"),
    "no probe": (silence("read", 0), ["info"], "a read has no answer"),
}


@pytest.mark.parametrize("parts, words, told", SILENT.values(), ids=SILENT)
def test_silence_ends_a_command(server, platter, tmp_path, parts, words, told):
    server.start(Script().with_(**parts))
    after = ["out"] if words[0] == "convert" else []
    result = platter([*words, SHORT, *after])
    assert result.status == 1, result
    assert f"silent for 1 seconds and is given up; {told}" in result.err
    assert "nbd+unix:///?socket=s" in result.err
    assert result.err.count("silent") == 1
    assert sorted(os.listdir(tmp_path)) == ["s"]


def test_a_flush_has_more_time(server, platter):
    """As a server writes out then what it has."""
    server.start(Script().with_(go=FLUSHES, flush=lambda cookie: b""))
    result = platter(["io", "-f", "raw", "-c", "flush", SHORT])
    assert result.status == 1, result
    assert "a flush has no answer" in result.err


class Dripping(Script):
    """Once it is read from."""

    go = go(h.export(2**20))["go"]

    def __init__(self, piece, pause):
        self.then = {"piece": piece, "pause": pause}

    def read(self, *request):
        self.with_(**self.then)
        return super().read(*request)


@pytest.mark.parametrize("piece, pause", [(1, 0.05), (1000, 0.05)])
def test_an_answer_in_drips(server, platter, piece, pause):
    """It would take hours, or a minute; so little is nothing."""
    server.start(Dripping(piece, pause))
    result = platter(["bench", "-f", "raw", "-c", "1", "-s", "1M", SHORT])
    assert result.status == 1, result
    assert "a read has no answer" in result.err


def test_a_slow_server_is_not_given_up(server, platter, tmp_path):
    """Each answer takes longer than the timeout, and never stands still."""
    server.start(Dripping(2**16, 0.1))
    result = platter(["convert", "-f", "raw", "-O", "raw", SHORT, "out"])
    assert result.status == 0 and not result.err, result
    assert (tmp_path / "out").read_bytes() == h.content(0, 2**20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("parts", [{"read": lambda *_: b""},
                                   {"status": lambda *_: b""},
                                   {"most": 0, "stays": True}])
def test_a_signal_ends_the_wait(server, platter, tmp_path, number, parts):
    """An hour would be left; nothing is."""
    server.start(Script().with_(**parts))
    with subprocess.Popen([platter.program, "convert", "-f", "raw", "-O",
                           "raw", f"{URI}&timeout=3600&open-timeout=3600",
                           "out"], cwd=tmp_path,
                          stderr=subprocess.PIPE) as process:
        assert server.silent.wait(60)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode in (1, -number) and b"anitizer" not in err
    assert sorted(os.listdir(tmp_path)) == ["s"]


def test_it_is_tried_again_for_as_long_as_wished(server, platter, tmp_path):
    """Nobody listens at first; without the word that is an error at once."""
    os.rename(tmp_path / "s", tmp_path / "later")
    assert platter(["info", URI]).status == 1
    with subprocess.Popen([platter.program, "convert", "-f", "raw", "-O",
                           "raw", f"{URI}&open-timeout=60", "out"],
                          cwd=tmp_path) as process:
        time.sleep(0.5)  # so that it is in vain at first
        server.start(Script())
        os.rename(tmp_path / "later", tmp_path / "s")
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert (tmp_path / "out").read_bytes() == h.content(0, h.SIZE)


@pytest.mark.parametrize("most", [0, GREETING])
def test_a_list_of_exports_comes_to_an_end(server, platter_path, tmp_path,
                                           most):
    server.start(Script().with_(most=most, stays=True))
    (tmp_path / "qemu-nbd").symlink_to(platter_path)
    done = subprocess.run([tmp_path / "qemu-nbd", "-L", "-k", tmp_path / "s"],
                          cwd=tmp_path, capture_output=True, text=True,
                          timeout=100, check=False)
    assert done.returncode == 1 and "Connection timed out" in done.stderr, done


@pytest.mark.parametrize("words", ["timeout=0", "timeout=", "timeout=1s",
                                   "timeout=86401", "open-timeout=-1",
                                   "timeout=18446744073709551617"])
def test_times_that_are_none(platter, words):
    result = platter(["info", f"{URI}&{words}"])
    assert result.status == 1 and "number of seconds from" in result.err
    result = platter(["info", "--image-opts",
                      f"driver=nbd,path=s,{words}"])
    assert result.status == 1 and "number of seconds from" in result.err


def test_an_export_does_not_grow(server, platter):
    server.start(Script())
    for size in ("1M", "+1M"):
        result = platter(["resize", "-f", "raw", URI, size])
        assert result.status == 1, result
        assert "nbd storage is fixed at 65536 bytes" in result.err
    result = platter(["create", "-f", "raw", URI, "1M"])
    assert result.status == 1 and "cannot be created" in result.err, result


def test_no_connection_is_made_again(platter):
    result = platter(["info", "--image-opts",
                      "driver=nbd,path=s,reconnect-delay=5"])
    assert result.status == 1 and "reconnect-delay=0" in result.err
