// Swap space of a test's own, so that what sleeps is really paged out.

import { execFile } from "node:child_process";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Adds a small swap file until the test `t` ends. False where that is not possible: not as root, in some containers. */
export async function withSwap(t) {
  const directory = await fs.mkdtemp(path.join(os.tmpdir(), "marmot-swap-"));
  const file = path.join(directory, "swap");
  let on = false;
  t.after(async () => {
    // As long as it is in use, it cannot be removed.
    if (on) await run("swapoff", [file]);
    await fs.rm(directory, { recursive: true, force: true });
  });
  try {
    await run("fallocate", ["-l", "512M", file]);
    await fs.chmod(file, 0o600);
    await run("mkswap", [file]);
    await run("swapon", [file]);
    on = true;
  } catch (error) {
    t.diagnostic(`without swap, replicas are only frozen: ${error.message.trim()}`);
    return false;
  }
  return true;
}
