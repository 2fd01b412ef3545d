# SPDX-License-Identifier: BSD-3-Clause
"""Servers that fail or go away: the error is told, nothing is called good."""

import subprocess

import pytest
from nbd_peers import SOCKET, URI, WAIT_SECONDS, random_disk, uri, wait_until

M = 1 << 20
SIZE = 4 * M

# A server in which the request of one kind with the number in the file
# "fails" fails, each time that the file "always" exists. It serves "disk".
COUNTED = """
    n=$(($(cat "$tmpdir/n" 2>/dev/null || echo 0) + 1))
    echo $n >"$tmpdir/n"
    fails=$(cat fails)
    if [ "$n" -eq "$fails" ] || [ -e always ] && [ "$n" -ge "$fails" ]; then
        echo "EIO a bad block" >&2
        exit 1
    fi
"""
SCRIPTS = {
    "thread_model": "echo serialize_all_requests",
    "get_size": f"echo {SIZE}",
    "can_write": "exit 0",
    "can_flush": "exit 0",
    "can_zero": "exit 0",
    "can_trim": "exit 0",
    "can_multi_conn": "exit 0",
    "can_extents": "exit 0",
    "pread": "dd if=disk skip=$4 count=$3 iflag=count_bytes,skip_bytes "
             "status=none",
    "pwrite": "dd of=disk seek=$4 oflag=seek_bytes conv=notrunc status=none",
    "zero": "fallocate -z -o $4 -l $3 disk",
    "trim": "fallocate -p -o $4 -l $3 disk",
    "flush": "true",
    "extents": "echo $4 $3",
}


class Failing:
    """Starts that server anew for each number."""

    def __init__(self, servers, folder, kind):
        self.servers = servers
        self.folder = folder
        self.scripts = dict(SCRIPTS, **{kind: COUNTED + SCRIPTS[kind]})

    def start(self, number):
        (self.folder / "fails").write_text(str(number))
        return self.servers.nbdkit("eval", *(
            f"{name}={script}" for name, script in self.scripts.items()))


def first_that_is_good(failing, run):
    """Lets request 1, 2, ... fail until none is left; how many failed."""
    for number in range(1, 100):
        server = failing.start(number)
        done = run()
        server.stop()
        if done.returncode == 0:
            return number - 1
        assert done.returncode == 1, done
        assert "error" in done.stderr or "failed" in done.stderr, done
    raise AssertionError("it fails even if no request does")


@pytest.mark.parametrize("kind", ["pread", "extents"])
def test_a_read_that_fails_fails_the_copy(servers, tmp_path, platter, kind):
    """CVE-2022-0485: there the copy was called good, with zeros in it."""
    disk = random_disk(tmp_path / "disk", SIZE, [(0, SIZE)])
    failing = Failing(servers, tmp_path, kind)

    def run():
        (tmp_path / "out").unlink(missing_ok=True)
        done = platter("convert -f raw -O raw", [URI], "out")
        assert (tmp_path / "out").exists() == (done.returncode == 0)
        return done

    failed = first_that_is_good(failing, run)
    # What is not known to be a hole is read, so these do no harm.
    assert failed == 0 if kind == "extents" else failed >= 4
    assert (tmp_path / "out").read_bytes() == disk.read_bytes()


@pytest.mark.parametrize("kind, pieces, least", [
    ("pwrite", [(0, SIZE)], 4), ("zero", [(0, M), (2 * M, M)], 2),
    ("flush", [(0, M)], 1)])
def test_a_write_that_fails_fails_the_copy(servers, tmp_path, platter, kind,
                                           pieces, least):
    source = random_disk(tmp_path / "source", SIZE, pieces)
    (tmp_path / "disk").write_bytes(b"\xff" * SIZE)
    failing = Failing(servers, tmp_path, kind)
    failed = first_that_is_good(
        failing, lambda: platter("convert -n -f raw -O raw source", [URI]))
    assert failed >= least
    assert (tmp_path / "disk").read_bytes() == source.read_bytes()


def test_a_read_that_fails_fails_other_commands(servers, tmp_path, platter):
    disk = random_disk(tmp_path / "disk", SIZE, [(0, SIZE)])
    (tmp_path / "same").write_bytes(disk.read_bytes())
    (tmp_path / "always").touch()
    Failing(servers, tmp_path, "pread").start(1)
    assert platter("compare -f raw -F raw same", [URI]).returncode == 4
    platter.bad("info", [URI])  # the format cannot be found out
    platter.bad("bench -c 2 -f raw", [URI])


def test_a_failed_flush_fails_all_later_ones(servers, tmp_path, platter_io):
    """Though the server would take them."""
    random_disk(tmp_path / "disk", SIZE, [])
    Failing(servers, tmp_path, "flush").start(1)
    done = platter_io("-f raw", ["-c", "write -q 0 512", "-c", "flush",
                                 "-c", "flush"], [URI])
    assert done.returncode == 1
    assert done.stdout.count("flush") + done.stderr.count("flush") >= 2


def test_a_read_that_fails_does_not_break_the_connection(servers, tmp_path,
                                                         platter_io):
    random_disk(tmp_path / "disk", SIZE, [])
    Failing(servers, tmp_path, "pread").start(1)
    done = platter_io("-f raw", ["-c", "read 0 512", "-c", "read 512 512"],
                      [URI])
    assert done.returncode == 1
    assert "read failed: Input/output error" in done.stdout
    assert "read 512/512 bytes at offset 512" in done.stdout


# One request at a time, slowly: none of the runs ends before the server.
SLOW = ("--filter=log --filter=noparallel --filter=delay %s file disk "
        "serialize=all-requests logfile=log delay-read=100ms delay-write=100ms")


def run_to_death(argv, tmp_path, server, seen):
    """Kills the server once its log shows `seen`; what the program says."""
    with subprocess.Popen(argv, cwd=tmp_path, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        log = tmp_path / "log"
        wait_until(lambda: log.exists() and seen in log.read_text(), seen)
        assert process.poll() is None
        server.kill()
        process.communicate(timeout=WAIT_SECONDS)
    return process


@pytest.mark.parametrize("filters", ["", "--filter=multi-conn"])
@pytest.mark.parametrize("read", [True, False])
def test_a_server_that_is_killed(servers, tmp_path, platter, filters, read):
    random_disk(tmp_path / "disk", 32 * M, [(0, 32 * M)])
    random_disk(tmp_path / "source", 32 * M, [(0, 32 * M)])
    mode = " multi-conn-mode=disable" if filters else ""
    server = servers.nbdkit(SLOW % filters + mode)
    if read:
        words = ["convert", "-f", "raw", "-O", "raw", URI, "out"]
    else:
        words = ["convert", "-n", "-f", "raw", "-O", "raw", "source", URI]
    argv = platter.argv + words
    done = run_to_death(argv, tmp_path, server,
                        "...Read" if read else "...Write")
    assert done.returncode == 1
    assert not (tmp_path / "out").exists()


def test_all_threads_see_the_end(servers, tmp_path, platter_io):
    """Requests on their way, on four connections and beside each other."""
    random_disk(tmp_path / "disk", 16 * M, [])
    server = servers.nbdkit(SLOW % "")
    words = ["io", "-f", "raw"]
    for number in range(32):
        words += ["-c", f"aio_read {number * 4096} 4096"]
    words += ["-c", "aio_flush", "-c", "read 0 512", "-c", "write 0 512",
              "-c", "flush", URI]
    done = run_to_death([platter_io.argv[0], *words], tmp_path, server,
                        "...Read")
    assert done.returncode == 1


def test_a_backing_file_that_goes_away(servers, tmp_path, platter):
    random_disk(tmp_path / "disk", 32 * M, [(0, 32 * M)])
    server = servers.nbdkit(SLOW % "")
    platter.good("create -q -f qcow2 -F raw top.qcow2 -b", [uri()])
    (tmp_path / "log").unlink()
    server.stop()
    server = servers.nbdkit(SLOW % "")
    done = run_to_death([*platter.argv, "convert", "-O", "raw", "top.qcow2",
                         "out"], tmp_path, server, "...Read")
    assert done.returncode == 1
    assert not (tmp_path / "out").exists()


def test_an_export_is_not_copied_into_itself(servers, tmp_path, platter):
    """No lock keeps a server's clients apart, so platter has to."""
    random_disk(tmp_path / "disk", M, [(0, M)])
    before = (tmp_path / "disk").read_bytes()
    servers.nbdkit("file disk")
    platter.good("create -q -f qcow2 -F raw top.qcow2 -b", [uri()])
    for source in (["-f", "raw", uri()], ["-f", "raw", f"nbd:unix:{SOCKET}"],
                   ["-f", "qcow2", "top.qcow2"]):
        told = platter.bad("convert -n -O raw", source, [uri()])
        assert "is a source and the target" in told
    assert (tmp_path / "disk").read_bytes() == before


@pytest.mark.parametrize("kind", ["qemu-nbd", "nbdkit"])
def test_a_server_that_is_restarted(servers, tmp_path, platter_io, kind):
    """Nobody knows what it has kept of the writes that no flush was behind:
    there is an error, and no flush that claims them. What was flushed is
    there."""
    disk = random_disk(tmp_path / "disk", SIZE, [])

    def start():
        if kind == "nbdkit":
            return servers.nbdkit("file disk")
        return servers.qemu_nbd("-f raw disk")

    server = start()
    process = platter_io.start("-f raw", [URI])
    process.stdin.write("write -q -P 1 0 64k\nflush\nread -P 1 0 64k\n"
                        "write -P 2 1M 64k\n")
    process.stdin.flush()
    assert "read 65536/65536" in process.stdout.readline()
    for line in process.stdout:
        if "wrote 65536/65536" in line:
            break
    server.kill()
    start()
    out, _ = process.communicate("flush\nread 0 512\nwrite 0 512\nflush\n")
    assert process.returncode == 1
    assert "read failed" in out and "write failed" in out
    assert out.count("flush") >= 2, out
    assert disk.read_bytes()[:65536] == b"\1" * 65536
