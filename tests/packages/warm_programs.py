"""Programs that are forked from a process that has imported torch and transformers already.

Importing these is most of what it costs to start one of Ray's workers: seconds of a core. Ray and
the package itself are imported after the fork, by each on its own.
`python -m warm_programs N` serves at the socket of this number until its standard input ends.
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ADDRESS = "WARM_PROGRAMS"  # in the environment
MODULES = (
    "gymnasium",
    "pandas",
    "pyarrow",
    "scipy.optimize",
    "torch._dynamo",
    "torchvision",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
)


def possible() -> bool:
    """Not beside a GPU: CUDA does not work in forks."""
    return sys.platform == "linux" and not Path("/dev/nvidiactl").exists()


@contextmanager
def served(folder: Path) -> Iterator[None]:
    """While this lasts, Ray's workers are started so, where that is possible."""
    if not possible():
        yield
        return
    address = str(folder / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        command = [sys.executable, "-m", __name__]
        server = subprocess.Popen(
            [*command, str(listener.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
    os.environ[ADDRESS] = address
    yield
    del os.environ[ADDRESS]
    server.kill()
    server.communicate()


def hand_over() -> None:
    """Has this program run in a fork of the server, and ends; or returns, if none serves."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.environ[ADDRESS])
        except OSError:
            return
        script = next(i for i, argument in enumerate(sys.orig_argv) if argument.endswith(".py"))
        program = {
            "argv": sys.orig_argv[script:],
            "environ": dict(os.environ),
            "path": sys.path,
            "folder": os.getcwd(),
        }
        socket.send_fds(connection, [b"0"], [0, 1, 2])
        connection.sendall(json.dumps(program).encode())
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)  # until it is forked
    os._exit(0)


def serve(listener: socket.socket) -> dict[str, Any]:
    """Forks for everyone who asks; returns in the forks, with what they are to run."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            os._exit(0)
        connection, _ = listener.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 1, 3)
            with connection.makefile("rb") as file:
                program = json.load(file)
            if os.fork() == 0:
                os.setsid()  # Ray kills the whole process group of a worker that is gone
                for standard, fd in enumerate(fds):
                    os.dup2(fd, standard)
                    os.close(fd)
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return program
            for fd in fds:
                os.close(fd)


def run(program: dict[str, Any]) -> None:
    """Becomes the program."""
    gc.unfreeze()
    gc.enable()
    os.environ.clear()
    os.environ.update(program["environ"])
    os.chdir(program["folder"])
    sys.path[:] = program["path"]
    sys.argv = program["argv"]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    gc.disable()
    for module in MODULES:
        with suppress(ImportError):
            importlib.import_module(module)
    gc.freeze()  # the forks' collector takes it for old and seldom looks at it
    run(serve(socket.socket(fileno=int(sys.argv[1]))))
