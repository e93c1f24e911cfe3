"""Fills the disk."""

import os
import time

with open(os.environ.get("HOG", "/tmp/hog"), 'wb') as file:
    for _ in range(300):
        file.write(b'x' * (1 << 20)); file.flush()
time.sleep(600)
