"""Commands that are timed, and how busy the machine is."""
import os, socket, subprocess, tempfile, threading, time

# After this many seconds a command is taken for one that hangs.
LIMIT = 120


class Failed(Exception):
    """A command that should have worked did not."""


def timed(*command, env=None, cwd=None):
    """Runs to the end; gives seconds of wall and of CPU, and the largest process in MiB."""
    log = tempfile.TemporaryFile()
    began = time.monotonic()
    child = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                             env={**os.environ, **(env or {})}, cwd=cwd)
    bound = threading.Timer(LIMIT, child.kill)
    bound.start()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - began
    bound.cancel()
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        log.seek(0)
        raise Failed(f"{' '.join(map(str, command))}: exit code {child.returncode}\n{log.read().decode()}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def cpu(*command):
    """Seconds of CPU of a command that succeeds, without those in which this program would become it."""
    null = [(os.POSIX_SPAWN_OPEN, at, "/dev/null", os.O_RDWR, 0) for at in range(3)]
    pid = os.posix_spawn(command[0], list(map(str, command)), os.environ, file_actions=null)
    _, status, usage = os.wait4(pid, 0)
    if status != 0:
        raise Failed(f"{' '.join(map(str, command))}: wait status {status}")
    return usage.ru_utime + usage.ru_stime


def wall(*command, **options):
    return timed(*command, **options)[0]


def output(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=LIMIT)
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def busy_share():
    """The part of the processors' time that is taken now, while nothing is measured."""
    def read():
        times = list(map(int, open("/proc/stat").readline().split()[1:9]))
        return sum(times), times[3] + times[4]

    (all_before, idle_before), _, (all_after, idle_after) = read(), time.sleep(3), read()
    return 1 - (idle_after - idle_before) / max(1, all_after - all_before)
