// Waiting for something to become true, always with a limit and with words for what did not happen.

import { setTimeout as sleep } from "node:timers/promises";

/** Asks `check` until it answers with something true, and returns that. An error counts as "not yet". */
export async function eventually(what, check, { within = 30_000, every = 100 } = {}) {
  const deadline = Date.now() + within;
  let last;
  for (;;) {
    try {
      last = await check();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) {
      const seen = last instanceof Error ? last.message : JSON.stringify(last);
      throw new Error(`not within ${within / 1000} s: ${what} (last seen: ${seen})`);
    }
    await sleep(every);
  }
}
