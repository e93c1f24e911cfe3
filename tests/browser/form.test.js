// The form of a new launcher: looked at while it is typed, nothing lost, and what is said there holds. Then the menu of the
// app that came of it, and how soon a person sees the page.

import assert from "node:assert/strict";
import fs from "node:fs/promises";
import test from "node:test";

import { Browser } from "./harness/browser.js";
import { Marmot } from "./harness/marmot.js";
import * as pages from "./pages.js";

const AXE = await fs.readFile(new URL("node_modules/axe-core/axe.min.js", import.meta.url), "utf8");

const link = (page, name) => page.getByRole("link", { name, exact: true });
const button = (page, name) => page.getByRole("button", { name, exact: true });

test("a new launcher is made in one form, which says what is wrong while it is typed", { timeout: 300_000 }, async (t) => {
  const marmot = await Marmot.start(t, { idle_after: "1m" });
  const ada = await marmot.createUser("ada");
  await marmot.createUser("bob");
  const repository = await marmot.repositoryOf("static-site");
  const browser = await Browser.launch(t);
  await browser.watched(async () => {
    const page = await (await browser.newProfile()).newPage();
    await pages.signIn(page, marmot.url, ada);
    await pages.createProject(page, { name: "Burrow", visibility: "Public" });
    await link(page, "New launcher").first().click();
    await saysWhatIsWrong(page);
    await isAccessible(page);
    await fillsIn(page, repository);
    await button(page, "Create launcher").click();
    await pages.activate(page);
    await restarts(marmot, page, ada);
    await holds(page);
    t.diagnostic(`largest contentful paint: ${(await largestPaint(page)).toFixed(0)} ms`);
  });
});

async function saysWhatIsWrong(page) {
  const port = page.getByLabel("Port", { exact: true });
  await port.fill("70000");
  await page.getByText("“70000” is no port").waitFor();
  assert.equal(await port.getAttribute("aria-invalid"), "true");
  assert.match(await port.getAttribute("aria-describedby"), /port-wrong/);
  await port.fill("8501");
  await page.getByText("is no port").waitFor({ state: "detached" });
  assert.equal(await port.getAttribute("aria-invalid"), null);
  await port.fill("");

  await page.getByRole("radio", { name: "Named people and groups" }).check();
  await page.getByLabel("Named people", { exact: true }).fill("nobody-here");
  await page.getByText("there is no user", { exact: false }).or(page.getByText("There is no user", { exact: false })).first().waitFor();
  await page.getByLabel("Secret’s name").first().fill("PORT");
  await page.getByLabel("Secret’s value").first().fill("x");
  await page.getByText("is set by the platform").waitFor();
  await page.getByText("Advanced", { exact: true }).click();
  await page.getByLabel("Falls asleep after").fill("soon");
  await page.getByText("“soon” is no duration").waitFor();
  // Not one of the others went away meanwhile.
  await page.getByText("is set by the platform").waitFor();
}

async function isAccessible(page) {
  await page.evaluate(AXE);
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    const { violations } = await page.evaluate(() => globalThis.axe.run(document));
    assert.deepEqual(violations.map(({ id, nodes }) => `${colorScheme}: ${id}: ${nodes[0].html}`), []);
  }
  await page.emulateMedia({ colorScheme: "light" });
}

async function fillsIn(page, repository) {
  await page.getByLabel("Repository", { exact: true }).fill(repository);
  await page.getByLabel("Name", { exact: true }).fill("Day length");
  await page.getByLabel("Named people", { exact: true }).fill("bob");
  await page.getByLabel("Secret’s name").first().fill("TOKEN");
  await page.getByRole("radio", { name: "Dashboard", exact: true }).check();
  // Sent all the same, it comes back with everything that was typed.
  await button(page, "Create launcher").click();
  await page.getByText("“soon” is no duration").waitFor();
  assert.equal(await page.getByLabel("Named people", { exact: true }).inputValue(), "bob");
  assert.equal(await page.getByLabel("Secret’s name").first().inputValue(), "TOKEN");
  assert.equal(await page.getByLabel("Secret’s value").first().inputValue(), "x");
  assert.ok(await page.getByRole("radio", { name: "Dashboard", exact: true }).isChecked());
  await page.getByLabel("Falls asleep after").fill("2m");
}

/** From the menu, beside the replica that serves. */
async function restarts(marmot, page, ada) {
  const [app] = await marmot.api(ada, "GET", "/apps");
  const { revision } = await marmot.api(ada, "GET", `/apps/${app.name}`);
  await page.getByLabel("More for Day length").click();
  await button(page, "Restart").click();
  await link(page, "Day length").first().click();
  await page.getByText(`Is restarted: revision ${revision + 1} is the same as before`, { exact: false }).waitFor();
  await link(page, "Open").first().waitFor();
}

/** On the app's own page. */
async function holds(page) {
  await page.getByText("Those named below may open it, and the members of the project.").waitFor();
  await page.getByText("TOKEN", { exact: true }).first().waitFor();
  const replicas = page.getByRole("region", { name: "Replicas" });
  await replicas.getByRole("columnheader", { name: "In use by" }).waitFor();
  await replicas.getByRole("cell", { name: "nobody" }).first().waitFor();
}

/** How long after the navigation a person saw the largest thing on the page, in milliseconds. A figure, no test. */
async function largestPaint(page) {
  await page.reload({ waitUntil: "load" });
  return page.evaluate(
    () =>
      new Promise((tell) => {
        const watch = new PerformanceObserver((list) => tell(list.getEntries().at(-1).startTime));
        watch.observe({ type: "largest-contentful-paint", buffered: true });
      }),
  );
}
