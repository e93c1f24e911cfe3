// The main job, as a person sees it: a repository becomes an app that sleeps, wakes and is shared.

import assert from "node:assert/strict";
import test from "node:test";

import * as explorer from "./explorer.js";
import { Browser } from "./harness/browser.js";
import { Marmot } from "./harness/marmot.js";
import { eventually } from "./harness/wait.js";
import * as pages from "./pages.js";

test("a repository becomes an app that sleeps, wakes and is shared", { timeout: 600_000 }, async (t) => {
  const marmot = await Marmot.start(t, { idle_after: "3s", stop_after: "10m" });
  const ada = await marmot.createUser("ada", { admin: true });
  const repository = await marmot.repositoryOf("streamlit-explorer");
  const browser = await Browser.launch(t);

  await browser.watched(async () => {
    const page = await (await browser.newProfile()).newPage();
    await pages.signIn(page, marmot.url, ada);
    await pages.createProject(page, { name: "Colony", visibility: "Public" });
    await pages.createAppFromCode(page, { name: "Explorer", repository });
    await pages.activate(page);

    let connections;
    const app = await pages.open(page, (tab) => (connections = explorer.countConnections(tab)));
    await explorer.isOpen(app);
    const name = new URL(app.url()).hostname.split(".")[0];

    await explorer.countSighting(app);
    await explorer.countSighting(app);
    await explorer.addNote(app, "Two pups at the larch");
    await explorer.smoothMore(app);

    // The tab stays open and silent; the next click finds the session as it was, on the same connection.
    await isAsleep(marmot, ada, name);
    await pages.saysAsleep(page);
    await explorer.countSighting(app);
    assert.equal(await explorer.sightings(app), 3);
    assert.deepEqual(await explorer.notes(app), ["Two pups at the larch"]);
    assert.deepEqual(connections, { opened: 1, closed: 0 });
    await explorer.upload(app, "mine.csv", "hour,whistles\n6,3\n7,9\n8,4\n");
    assert.equal(await explorer.sightings(app), 3);

    await pages.appPage(page, "Explorer", ["Was switched on.", "Fell asleep, because nobody used it."]);

    // Somebody else, who has never been here, knocks while it sleeps.
    const address = await pages.shareLink(page);
    await isAsleep(marmot, ada, name);
    const colleague = await (await browser.newProfile()).newPage();
    await colleague.goto(address);
    await explorer.isOpen(colleague);
    assert.equal(await explorer.sightings(colleague), 0, "a session belongs to one visitor");

    await pages.readLogs(page, "You can now view your Streamlit app");

    assert.deepEqual(connections, { opened: 1, closed: 0 }, "the first visitor's connection outlasted all of it");
    const own = colleague.url();
    await pages.shutDown(page);
    await colleague.goto(address);
    await pages.sharedIsOff(colleague, "Explorer");
    await colleague.goto(own);
    await pages.addressIsOff(colleague);
    assert.equal((await marmot.request("GET", "/", { host: new URL(app.url()).host })).status, 404);
  });

  assert.equal(await marmot.stop(), 0);
});

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
