"""Ends a server and removes its folder once the process that started it is gone, however that ended.

Run as `server_watcher.py PARENT FOLDER`, the first of the process group of the server's programs.
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

signal.signal(signal.SIGQUIT, signal.SIG_IGN)
parent, folder = int(sys.argv[1]), Path(sys.argv[2])
while os.getppid() == parent:
    time.sleep(0.2)

os.killpg(0, signal.SIGQUIT)  # an immediate shutdown, which gives shared memory back
deadline = time.monotonic() + 5
while (folder / "data" / "postmaster.pid").exists() and time.monotonic() < deadline:
    time.sleep(0.05)
shutil.rmtree(folder, ignore_errors=True)
os.killpg(0, signal.SIGKILL)
