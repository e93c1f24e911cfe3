// The README's first command: what a newcomer runs, and what they find behind the link that it prints.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import readline from "node:readline";
import test from "node:test";

import * as explorer from "./explorer.js";
import { Browser } from "./harness/browser.js";
import { ROOT, freePort } from "./harness/marmot.js";
import * as pages from "./pages.js";

/** Waits, in each example, for what only its own code and a connection to it can draw. */
const EXAMPLES = {
  "Colony explorer": explorer.isOpen,
  "Winter budget of a marmot": (app) => app.getByText(/^\d+\.\d+ kg$/).first().waitFor(),
  "Alpine stations": (app) => app.locator(".js-plotly-plot .scatterlayer .trace").first().waitFor(),
  "Sequence reader": (app) => app.locator("canvas, svg.marks").first().waitFor(),
  "Which iris is it?": async (app) => {
    await app.getByRole("button", { name: "Predict" }).click();
    await app.getByRole("heading", { name: "Iris setosa" }).waitFor();
  },
  "How long is the day?": (app) => app.getByText(/^Today the sun is up for/).waitFor(),
};

test("the demo serves every example to who opens the link it prints", { timeout: 900_000 }, async (t) => {
  const { link, stop } = await demo(t);
  const browser = await Browser.launch(t);
  await browser.watched(async () => {
    const page = await (await browser.newProfile()).newPage();
    await page.goto(link);
    for (const [title, isOpen] of Object.entries(EXAMPLES)) {
      await pages.openProject(page, new RegExp(`^${title.replace("?", "\\?")} \\(`));
      await pages.isOn(page);
      const app = await pages.open(page);
      app.setDefaultTimeout(60_000);
      await isOpen(app);
      await app.close();
    }
  });
  assert.equal(await stop(), 0, "Ctrl-C ends it well");
});

/** Runs `cargo xtask demo`, as it is written in the README, but on a free port. Returns the link it prints. */
async function demo(t) {
  const port = await freePort();
  const words = ["xtask", "demo", "--listen", `127.0.0.1:${port}`];
  const child = spawn("cargo", words, { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"], detached: true });
  const ended = once(child, "exit");
  // As the terminal does: to cargo and to the Marmot below it.
  const stop = async () => {
    if (child.exitCode === null) process.kill(-child.pid, "SIGINT");
    await ended;
    return child.exitCode;
  };
  t.after(stop);
  const lines = readline.createInterface({ input: child.stdout });
  for await (const line of lines) {
    const link = line.match(/http:\/\/\S+\/demo\/\S+/);
    if (link) {
      // What it prints later must not fill the pipe.
      child.stdout.resume();
      return { link: link[0], stop };
    }
  }
  throw new Error("the demo ended before it printed a link");
}
