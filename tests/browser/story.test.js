// The main job, as a person sees it: a repository, or an image, becomes an app that sleeps, wakes and is shared.

import assert from "node:assert/strict";
import path from "node:path";
import test from "node:test";

import * as counter from "./counter.js";
import * as explorer from "./explorer.js";
import { Browser } from "./harness/browser.js";
import { Marmot } from "./harness/marmot.js";
import { Podman } from "./harness/podman.js";
import { eventually } from "./harness/wait.js";
import * as pages from "./pages.js";

const SETTINGS = { idle_after: "3s", stop_after: "10m" };

test("a repository becomes an app that sleeps, wakes and is shared", { timeout: 600_000 }, async (t) => {
  const marmot = await Marmot.start(t, SETTINGS);
  const repository = await marmot.repositoryOf("streamlit-explorer");
  await story(t, marmot, {
    ...explorer,
    create: (page) => pages.createAppFromCode(page, { name: explorer.name, repository }),
    async use(app) {
      await explorer.addNote(app, "Two pups at the larch");
      await explorer.smoothMore(app);
    },
    async useAgain(app) {
      assert.deepEqual(await explorer.notes(app), ["Two pups at the larch"]);
      await explorer.upload(app, "mine.csv", "hour,whistles\n6,3\n7,9\n8,4\n");
      assert.equal(await explorer.sightings(app), 3);
    },
  });
});

test("so does an image of a registry", { timeout: 300_000 }, async (t) => {
  const podman = await Podman.start(t);
  if (!podman) return;
  const image = await podman.publish("lab/counter:1", path.join(import.meta.dirname, "apps/counter/app.py"), 8000);
  const marmot = await Marmot.start(t, { ...SETTINGS, container_engine: podman.socket, allow_private_networks: "true" });
  await story(t, marmot, {
    ...counter,
    create: (page) => pages.createAppFromImage(page, { name: counter.name, image }),
    use: () => {},
    useAgain: () => {},
  });
});

/** Tells it of an app: what it is called, how it is made, what somebody does in it before it sleeps and after. */
async function story(t, marmot, what) {
  const ada = await marmot.createUser("ada", { admin: true });
  const browser = await Browser.launch(t);

  await browser.watched(async () => {
    const page = await (await browser.newProfile()).newPage();
    await pages.signIn(page, marmot.url, ada);
    await pages.createProject(page, { name: "Colony", visibility: "Public" });
    await what.create(page);
    await pages.activate(page);

    let connections;
    const app = await pages.open(page, (tab) => (connections = what.countConnections(tab)));
    await what.isOpen(app);
    const name = new URL(app.url()).hostname.split(".")[0];

    await what.countSighting(app);
    await what.countSighting(app);
    await what.use(app);

    // The tab stays open and silent; the next click finds the session as it was, on the same connection.
    await isAsleep(marmot, ada, name);
    await pages.saysAsleep(page);
    await what.countSighting(app);
    assert.equal(await what.sightings(app), 3);
    assert.deepEqual(connections, { opened: 1, closed: 0 });
    await what.useAgain(app);

    await pages.appPage(page, what.name, ["Was switched on.", "Fell asleep, because nobody used it."]);

    // Somebody else, who has never been here, knocks while it sleeps.
    const address = await pages.shareLink(page);
    await isAsleep(marmot, ada, name);
    const colleague = await (await browser.newProfile()).newPage();
    await colleague.goto(address);
    await what.isOpen(colleague);
    assert.equal(await what.sightings(colleague), 0, "a session belongs to one visitor");

    await pages.readLogs(page, what.line);

    assert.deepEqual(connections, { opened: 1, closed: 0 }, "the first visitor's connection outlasted all of it");
    const own = colleague.url();
    await pages.shutDown(page);
    await colleague.goto(address);
    await pages.sharedIsOff(colleague, what.name);
    await colleague.goto(own);
    await pages.addressIsOff(colleague);
    assert.equal((await marmot.request("GET", "/", { host: new URL(app.url()).host })).status, 404);
  });

  assert.equal(await marmot.stop(), 0);
}

/** Asks the API, so that looking does not wake it. */
async function isAsleep(marmot, user, name) {
  await eventually(
    `${name} falls asleep`,
    async () => {
      const app = await marmot.api(user, "GET", `/apps/${name}`);
      if (app.phase !== "asleep") throw new Error(`it is ${app.phase}: ${app.reason ?? ""}`);
      return app;
    },
    { within: 60_000 },
  );
}
