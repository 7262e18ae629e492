"""Becomes a command that dies with the process which started it.

`python leash.py PARENT CORES COMMAND...`, the cores as `0,1`, or `-` for all. The
kernel sends SIGKILL when the parent goes, however it goes. It is asked to here, between
fork and exec of the command, and not by `subprocess`'s `preexec_fn`, which runs Python
in the child of a fork: JAX's threads can hold a lock there that nobody will ever free.
What the kernel watches is the thread that started us, which has to stay as well.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
NOT_FOUND = 127  # as a shell has it


def main(parent: str, cores: str, *command: str) -> None:
    """Never returns."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    # It may have gone before the kernel was asked.
    if os.getppid() != int(parent):
        os.kill(os.getpid(), signal.SIGKILL)
    if cores != "-":
        os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}.", file=sys.stderr, flush=True)
        os._exit(NOT_FOUND)


if __name__ == "__main__":
    main(*sys.argv[1:])
