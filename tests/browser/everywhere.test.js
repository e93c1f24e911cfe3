// What holds for every page: it can be used without a script, by a screen reader, on a phone, in light and dark; it loads
// nothing from elsewhere and little from here; and it goes on when the server was killed.

import assert from "node:assert/strict";
import fs from "node:fs/promises";
import test from "node:test";

import { Browser } from "./harness/browser.js";
import { Marmot } from "./harness/marmot.js";
import { eventually } from "./harness/wait.js";
import * as pages from "./pages.js";

const AXE = await fs.readFile(new URL("node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };
/** What the first page may take, with everything it loads. */
const FIRST_PAGE = 100 * 1024;

const link = (page, name) => page.getByRole("link", { name, exact: true });
const button = (page, name) => page.getByRole("button", { name, exact: true });

test("every page, without a script, for everybody, in light and dark", { timeout: 300_000 }, async (t) => {
  const marmot = await Marmot.start(t, { idle_after: "1m" });
  const ada = await marmot.createUser("ada", { admin: true });
  const bob = await marmot.createUser("bob");
  const repository = await marmot.repositoryOf("static-site");
  const browser = await Browser.launch(t);
  await browser.watched(async () => {
    const { launcher, project, address } = await withoutScript(marmot, browser, ada, repository);
    await usageOutlastsTheServer(marmot, ada, address);
    await marmot.api(ada, "PATCH", `/projects/${(await projectOf(marmot, ada)).id}/members`, [
      { username: "bob", role: "viewer" },
    ]);
    const all = [project, launcher, `${launcher}/share`];
    const members = [launcher, `${launcher}/logs`];
    const owners = [
      ...all,
      "/",
      "/settings",
      `${launcher}/usage`,
      `${launcher}/logs`,
      "/projects/new",
      "/admin",
      "/admin/users",
      "/admin/audit",
      "/nowhere",
      "/design",
      `${project}/settings`,
      `${project}/audit`,
      `${project}/credentials`,
      `${project}/launchers/new`,
      `${launcher}/edit`,
      `${launcher}/shut-down`,
      `${launcher}/delete`,
    ];
    await holdsFor(marmot, browser, null, ["/", "/sign-in", ...all]);
    await holdsFor(marmot, browser, bob, members);
    await holdsFor(marmot, browser, ada, owners);
    // The words of other languages are longer, and screen readers have to be told whose they are.
    await holdsFor(marmot, browser, ada, owners.filter((path) => path !== "/design"), "de-CH");
    await chosenAtTheFoot(marmot, browser);
    await viewerSeesNoSwitch(marmot, browser, bob, launcher);
    await firstPageIsLight(marmot, browser);
    await goesOnAfterAKill(marmot, browser, ada, project);
  });
});

async function projectOf(marmot, user) {
  return marmot.api(user, "GET", "/namespaces/ada/projects/burrow");
}

/** From signing in to an app that is open, and off again, in a browser without JavaScript. Leaves it on. */
async function withoutScript(marmot, browser, ada, repository) {
  const page = await (await browser.newProfile({ javaScriptEnabled: false })).newPage();
  await pages.signIn(page, marmot.url, ada);
  await pages.createProject(page, { name: "Burrow", visibility: "Public" });
  const project = new URL(page.url()).pathname;
  await pages.createAppFromCode(page, { name: "Day length", repository });
  await button(page, "Activate").click();
  await eventually(
    "the app can be opened",
    async () => {
      await page.reload();
      if (!(await link(page, "Open").isVisible())) throw new Error("not yet");
      return true;
    },
    { within: 60_000 },
  );
  const address = await link(page, "Open").getAttribute("href");
  await link(page, "Share…").click();
  await page.getByRole("img", { name: "QR code of the link" }).waitFor();
  assert.match(await page.getByLabel("Link", { exact: true }).inputValue(), /\/p\/ada\/burrow\/apps\//);
  await link(page, "Close").click();
  const launcher = new URL(page.url()).pathname.replace(/\/$/, "");
  await link(page, "Settings").click();
  await page.getByText("Advanced", { exact: true }).click();
  await page.getByLabel("At most", { exact: true }).fill("many");
  await page.getByLabel("Never more than").fill("7");
  await button(page, "Save how it scales").click();
  await page.getByText("“many” is no whole number.").waitFor();
  assert.equal(await page.getByLabel("Never more than").inputValue(), "7", "what was typed is there again");
  await page.getByLabel("At most", { exact: true }).fill("2");
  await page.getByLabel("Never more than").fill("");
  await button(page, "Save how it scales").click();
  await page.getByText("Saved, and in force.").waitFor();
  await page.goto(marmot.url + project);
  await button(page, "Shut down").click();
  await button(page, "Yes, switch it off").click();
  await eventually("the app is off", async () => {
    if (await button(page, "Activate").isVisible()) return true;
    await page.reload();
    throw new Error("not yet");
  });
  await button(page, "Activate").click();
  return { launcher, project, address };
}

/** What an app was asked for is known to the server that follows. */
async function usageOutlastsTheServer(marmot, ada, address) {
  const host = new URL(address).host;
  await eventually("the app answers", async () => {
    const { status } = await marmot.request("GET", "/", { host, headers: { accept: "application/json" } });
    return status === 200;
  });
  const asked = async () => {
    const usage = await marmot.api(ada, "GET", `/apps/${host.split(".")[0]}/usage?range=hour`);
    return usage.total.requests["2xx"];
  };
  const before = await asked();
  assert.ok(before >= 1, `${before}`);
  assert.equal(await marmot.stop(), 0);
  await marmot.serve();
  assert.ok((await asked()) >= before, "nothing was lost");
}

/** What holds for each of these pages, in both themes and on a phone, for whose browser asks for this language. */
async function holdsFor(marmot, browser, who, paths, locale = "en-GB") {
  const signedIn = await browser.newProfile();
  if (who) await pages.signIn(await signedIn.newPage(), marmot.url, who);
  const storageState = await signedIn.storageState();
  await signedIn.close();
  const profile = await browser.newProfile({ reducedMotion: "reduce", locale, storageState });
  const page = await profile.newPage();
  const elsewhere = [];
  page.on("request", (request) => {
    if (!request.url().startsWith(`${marmot.url}/`)) elsewhere.push(request.url());
  });
  const phone = await (await browser.newProfile({ ...PHONE, locale, storageState })).newPage();
  const wrong = [];
  for (const path of paths) {
    await page.goto(marmot.url + path);
    const language = await page.evaluate(() => document.documentElement.lang);
    if (language !== locale.slice(0, 2)) wrong.push(`${path}: is in ${language}, not in ${locale}`);
    await page.evaluate(AXE);
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      // A theme changes colours and nothing else.
      const rules = colorScheme === "dark" ? { runOnly: ["color-contrast"] } : {};
      const { violations } = await page.evaluate((only) => globalThis.axe.run(document, only), rules);
      for (const { id, nodes } of violations) {
        wrong.push(`${path} (${colorScheme}, ${who?.username ?? "stranger"}): ${id}: ${nodes[0].html.slice(0, 120)}`);
      }
    }
    await phone.goto(marmot.url + path);
    const width = await phone.evaluate(() => document.documentElement.scrollWidth);
    if (width > PHONE.viewport.width) wrong.push(`${path}: ${width} pixels wide on a phone`);
  }
  assert.deepEqual(wrong, []);
  assert.deepEqual(elsewhere, []);
  await profile.close();
  await phone.context().close();
}

/** Who may not write sees the state and Open, not the switch. */
async function viewerSeesNoSwitch(marmot, browser, bob, launcher) {
  const page = await (await browser.newProfile()).newPage();
  await pages.signIn(page, marmot.url, bob);
  await page.goto(marmot.url + launcher);
  await link(page, "Open").waitFor();
  assert.equal(await button(page, "Shut down").count(), 0);
  assert.equal(await link(page, "Settings").count(), 0);
  assert.equal(await link(page, "Usage").count(), 1);
  await page.context().close();
}

/** A language is chosen by a form, and stays chosen. */
async function chosenAtTheFoot(marmot, browser) {
  const page = await (await browser.newProfile({ javaScriptEnabled: false })).newPage();
  await page.goto(`${marmot.url}/sign-in`);
  await button(page, "Français").click();
  await page.getByLabel("Mot de passe").waitFor();
  await page.goto(marmot.url);
  await link(page, "Commencer ici").waitFor();
  await page.context().close();
}

async function firstPageIsLight(marmot, browser) {
  const page = await (await browser.newProfile()).newPage();
  const sizes = [];
  page.on("requestfinished", (request) => sizes.push(request.sizes().then((of) => of.responseBodySize)));
  await page.goto(marmot.url, { waitUntil: "load" });
  const bytes = (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
  assert.ok(bytes > 0 && bytes <= FIRST_PAGE, `${bytes} bytes`);
  await page.context().close();
}

/** A page that is open tells what happens after the server was killed and started again. */
async function goesOnAfterAKill(marmot, browser, ada, project) {
  const page = await (await browser.newProfile()).newPage();
  await pages.signIn(page, marmot.url, ada);
  await page.goto(marmot.url + project);
  await link(page, "Open").waitFor();
  await marmot.kill();
  await marmot.serve();
  const [app] = await marmot.api(ada, "GET", "/apps");
  await marmot.api(ada, "DELETE", `/apps/${app.name}`);
  await button(page, "Activate").waitFor({ timeout: 60_000 });
  await button(page, "Activate").click();
  await link(page, "Open").waitFor({ timeout: 60_000 });
}
