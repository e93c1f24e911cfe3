// A visitor leaves a tab open and comes back to it, again and again: the app was frozen and its memory paged out, and
// the session goes on where it was. By default in Streamlit, whose sessions live on one WebSocket; with
// ALL_FRAMEWORKS=1 in every framework of the examples.

import assert from "node:assert/strict";
import test from "node:test";

import * as explorer from "./explorer.js";
import { Browser } from "./harness/browser.js";
import { Marmot } from "./harness/marmot.js";
import { withSwap } from "./harness/swap.js";
import { eventually } from "./harness/wait.js";

const CYCLES = 20;

/**
 * What a visitor does in each example: `open` waits until the page is drawn; `act` does something, for the `n`th time,
 * that only the app can answer, in the session that was opened at first.
 */
const FRAMEWORKS = {
  "streamlit-explorer": {
    open: explorer.isOpen,
    act: async (page, n) => {
      await explorer.countSighting(page);
      assert.equal(await explorer.sightings(page), n, "the session's own count goes on");
    },
  },
  "shiny-python": {
    open: (page) => page.getByText(/^\d+\.\d+ kg$/).first().waitFor(),
    act: async (page) => {
      const fat = page.locator("#fat");
      const before = await fat.innerText();
      // A long winter and a short one in turn.
      await page.locator("#winter").evaluate((input) => {
        const slider = window.jQuery(input).data("ionRangeSlider");
        slider.update({ from: slider.result.from === 240 ? 120 : 240 });
      });
      await eventually("the fat burnt is another", async () => (await fat.innerText()) !== before);
    },
  },
  gradio: {
    open: (page) => page.getByRole("button", { name: "Read" }).waitFor(),
    act: async (page, n) => {
      await page.getByRole("textbox", { name: "Sequence" }).fill("ATG".repeat(n));
      await page.getByRole("button", { name: "Read" }).click();
      const values = () => page.locator("textarea, input").evaluateAll((fields) => fields.map((field) => field.value));
      await eventually("the protein is as long", async () => (await values()).includes("M".repeat(n)));
    },
  },
  dash: {
    open: (page) => page.locator(".js-plotly-plot .scatterlayer .trace").first().waitFor(),
    act: async (page) => {
      const answered = page.waitForResponse((response) => response.url().includes("_dash-update-component") && response.ok());
      await page.getByRole("slider").first().press("ArrowRight");
      await answered;
    },
  },
};

const tested = process.env.ALL_FRAMEWORKS ? Object.keys(FRAMEWORKS) : ["streamlit-explorer"];

for (const example of tested) {
  const { open, act } = FRAMEWORKS[example];
  test(`a session in ${example} goes on through ${CYCLES} hibernations`, { timeout: 600_000 }, async (t) => {
    const paged = await withSwap(t);
    const marmot = await Marmot.start(t, { idle_after: "10m", stop_after: "1h" });
    const ada = await marmot.createUser("ada", { admin: true });
    const api = (method, call, body) => marmot.api(ada, method, call, body);
    const name = await deploy(marmot, api, example);
    const { url } = await api("GET", `/apps/${name}`);
    const browser = await Browser.launch(t);
    await browser.watched(async () => {
      const page = await (await browser.newProfile()).newPage();
      const sockets = watchSockets(page);
      let loads = 0;
      page.on("load", () => (loads += 1));
      await page.goto(url);
      page.setDefaultTimeout(60_000);
      await open(page);
      for (let n = 1; n <= CYCLES; n += 1) {
        await sleep(api, name, paged ? "light" : "frozen");
        await act(page, n);
      }
      assert.equal(loads, 1, "the page was never loaded again");
      assert.equal(sockets.closed, 0, `no connection was lost (${sockets.opened} were opened)`);
    });
    assert.equal(await marmot.stop(), 0);
  });
}

async function deploy(marmot, api, example) {
  const project = await api("POST", "/projects", { name: example, namespace: "ada", slug: example, visibility: "public" });
  const launcher = await api("POST", "/session_launchers", {
    name: example,
    project_id: project.id,
    launcher_type: "app",
    environment: {
      environment_image_source: "build",
      repository: await marmot.repositoryOf(example),
      builder_variant: "auto",
      frontend_variant: "none",
    },
  });
  const { name } = await api("POST", "/apps", { launcher_id: launcher.id });
  await eventually(
    `${name} runs`,
    async () => {
      const app = await api("GET", `/apps/${name}`);
      if (app.phase !== "running") throw new Error(`it is ${app.phase}: ${app.reason ?? ""}`);
      return true;
    },
    { within: 300_000, every: 500 },
  );
  return name;
}

/** Puts the app to sleep and waits until its memory is as far out of the way as it gets. */
async function sleep(api, name, depth) {
  await eventually(
    `${name} sleeps`,
    async () => {
      const { replicas } = await api("GET", `/apps/${name}`);
      if (replicas[0]?.state === "hibernated") return replicas[0].depth === depth;
      // A visitor's page may have said something at this very moment, which is use: asked again, it sleeps.
      await api("PATCH", `/apps/${name}`, { state: "hibernated" });
      return false;
    },
    { within: 60_000 },
  );
}

/** Counts the WebSockets of the page. */
function watchSockets(page) {
  const sockets = { opened: 0, closed: 0 };
  page.on("websocket", (socket) => {
    sockets.opened += 1;
    socket.on("close", () => (sockets.closed += 1));
  });
  return sockets;
}
