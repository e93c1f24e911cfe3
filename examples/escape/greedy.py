"""Takes as many processes and open files as there are, and says how many that was."""

import os, signal, socket, time
children, files = [], []
try:
    while len(children) < 5000:
        child = os.fork()
        if child == 0:
            time.sleep(600)
        children.append(child)
except OSError as error:
    print('forks:', len(children), flush=True)
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
try:
    while len(files) < 100_000:
        files.append(os.open('/dev/null', os.O_RDONLY))
except OSError as error:
    print('files:', len(files), flush=True)
for file in files:
    os.close(file)
