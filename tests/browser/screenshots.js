// Draws docs/screenshots anew: the real pages of a Marmot in every state that a card, a lobby or a form has, each in light, in
// dark and on a phone. No test: run by `cargo xtask screenshots`.
//
// A state that would pass by itself is held: one app never listens, one never finishes its build, one falls asleep only when told.

import fs from "node:fs/promises";
import path from "node:path";
import test from "node:test";

import * as explorer from "./explorer.js";
import { Browser } from "./harness/browser.js";
import { Marmot } from "./harness/marmot.js";
import { eventually } from "./harness/wait.js";
import * as pages from "./pages.js";

const FOLDER = path.resolve(import.meta.dirname, "../../docs/screenshots");
const DESKTOP = { width: 1200, height: 800 };
const PHONE = { width: 390, height: 844 };
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const FLOWER = JSON.stringify({ sepal_length: 6.3, sepal_width: 3.3, petal_length: 6.0, petal_width: 2.5 });
const FOREVER = "sleep 86400";

const PROJECT = {
  name: "Marmots of the Engadine",
  namespace: "ada",
  slug: "marmots",
  description: "Forty burrows above Pontresina, counted and weighed since 1998.",
  visibility: "public",
};
const HIDDEN = { name: "Nests", namespace: "ada", slug: "nests", description: "Where they sleep. Not for everybody.", visibility: "private" };
const CROWDED = { name: "Cameras", namespace: "ada", slug: "cameras", visibility: "public" };

const shell = (command) => ["sh", "-c", command];
/** What each state is drawn of. `example`: whose code it is; `from`: where that is, if not among the examples. */
const APPS = {
  colony: { example: "streamlit-explorer", name: "Colony explorer", description: "Body mass, temperature and time above ground, burrow by burrow." },
  predictor: { example: "fastapi-predict", name: "Species predictor", description: "A model endpoint for field stations: POST /predict." },
  days: { example: "static-site", name: "Day length", description: "How long the day is at the latitude of a burrow." },
  snow: { example: "static-site", name: "Snow depth", description: "Metres of snow above each burrow.", command: shell(`echo "Reading 4.1 GB of snow"; exec ${FOREVER}`) },
  map: {
    example: "static-site",
    name: "Old map",
    description: "Burrows as they were drawn in 1931.",
    command: shell(`echo "Reading map.mbtiles"; echo "FileNotFoundError: map.mbtiles" >&2; exit 1`),
  },
  diary: { example: "diary", name: "Field diary", description: "Who saw what, day by day.", from: path.resolve(import.meta.dirname, "apps") },
};
const DIARY = { Procfile: `release: echo "Indexing 26 summers of notes"; exec ${FOREVER}\nweb: python3 app.py\n` };

test("the pages are drawn", { timeout: 900_000 }, async (t) => {
  await fs.rm(FOLDER, { recursive: true, force: true });
  await fs.mkdir(FOLDER, { recursive: true });
  const settings = { idle_after: "1h", stop_after: "2h", start_timeout: "1h", thumbnails: CHROMIUM };
  const marmot = await Marmot.start(t, settings);
  const browser = await Browser.launch(t);
  await browser.watched(() => tell(marmot, browser));
});

async function tell(marmot, browser) {
  const ada = await marmot.createUser("ada", { admin: true });
  const bob = await marmot.createUser("bob");
  const page = await tab(browser);
  await page.goto(marmot.url);
  await draw(page, "front");
  await page.goto(`${marmot.url}/sign-in`);
  await draw(page, "sign-in");
  await pages.signIn(page, marmot.url, ada);

  const project = await marmot.api(ada, "POST", "/projects", PROJECT);
  const launchers = await createLaunchers(marmot, ada, project, APPS);
  const shown = { marmot, ada, page, launchers, address: `${marmot.url}/p/ada/marmots` };
  await forms(shown);
  const visitors = await Promise.all([1, 2, 3, 4].map(() => tab(browser)));
  shown.apps = await bringAbout(marmot, ada, launchers);
  await lobbies(shown, visitors[0]);
  await refusals(shown, await tab(browser), bob);
  for (const person of visitors) {
    await person.goto(shown.apps.colony.url);
    await explorer.isOpen(person);
  }
  await cards(shown);
  await appPages(shown);
  await theRest(shown);
}

/** The form of a launcher: its beginning, from code, as an image, and what it says is wrong. */
async function forms({ page, address, launchers }) {
  await page.goto(`${address}/launchers/new`);
  await draw(page, "new-launcher-type");
  await page.getByRole("radio", { name: "External environment" }).check();
  await draw(page, "new-launcher-image");
  await page.getByRole("radio", { name: "Create from code" }).check();
  await page.getByLabel("Repository", { exact: true }).fill(launchers.colony.environment.repository);
  await page.getByLabel("Name", { exact: true }).fill("Colony explorer");
  await page.getByText("A Python app").waitFor();
  await draw(page, "new-launcher", { fullPage: true });
  await page.getByLabel("Port", { exact: true }).fill("70000");
  const wrong = page.getByText("“70000” is no port");
  await wrong.waitFor();
  await wrong.scrollIntoViewIfNeeded();
  await draw(page, "new-launcher-wrong");
  await page.goto(`${page.url().split("/p/")[0]}/projects/new`);
  await draw(page, "new-project");
}

/** Brings each app into its state and leaves it there. */
async function bringAbout(marmot, ada, launchers) {
  const apps = {};
  for (const [word, launcher] of Object.entries(launchers)) apps[word] = await activate(marmot, ada, launcher);
  for (const word of ["colony", "predictor", "days"]) apps[word] = await reaches(marmot, ada, apps[word], "running");
  await reaches(marmot, ada, apps.map, "failed");
  await reaches(marmot, ada, apps.snow, "starting");
  await reaches(marmot, ada, apps.diary, "building");
  await eventually("there are pictures", async () => {
    const pictures = await fs.readdir(path.join(marmot.dataDirectory, "pictures"));
    return ["colony", "predictor", "days"].every((word) => pictures.includes(`${launchers[word].id}.jpg`));
  }, { within: 180_000 });
  await predictions(marmot, apps.predictor);
  await marmot.api(ada, "PATCH", `/apps/${apps.predictor.name}`, { state: "hibernated" });
  await reaches(marmot, ada, apps.predictor, "asleep");
  await marmot.api(ada, "DELETE", `/apps/${apps.days.name}`);
  return apps;
}

/** What is on an app's own address while it cannot be opened. */
async function lobbies({ marmot, apps, launchers }, visitor) {
  const seen = async (app, words, name) => {
    await visitor.goto(app.url);
    await visitor.getByText(words, { exact: true }).first().waitFor();
    await draw(visitor, name);
  };
  await seen(apps.snow, "Waking up", "lobby");
  await seen(apps.diary, "Building", "lobby-building");
  await seen(apps.map, "Out of order", "lobby-failed");
  await seen(apps.days, "This app is switched off", "lobby-off");
  await visitor.goto(`${marmot.url}/p/ada/marmots/apps/${launchers.days.id}`);
  await pages.sharedIsOff(visitor, launchers.days.name);
  await draw(visitor, "off");
  await visitor.goto(`http://nobody.localhost:${marmot.port}/`);
  await visitor.getByText("There is nothing at this address").waitFor();
  await draw(visitor, "not-found");
}

/** What somebody is told who may not open an app, and everybody where a project has no memory left. */
async function refusals({ marmot, ada }, page, bob) {
  const hidden = await marmot.api(ada, "POST", "/projects", HIDDEN);
  const { nests } = await createLaunchers(marmot, ada, hidden, { nests: { example: "static-site", name: "Nest map" } });
  const app = await activate(marmot, ada, nests);
  await pages.signIn(page, marmot.url, bob);
  await page.goto(app.url);
  await page.getByText("ask them to let you in").waitFor();
  await draw(page, "not-yours");

  const crowded = await marmot.api(ada, "POST", "/projects", CROWDED);
  const { cameras } = await createLaunchers(marmot, ada, crowded, { cameras: { example: "static-site", name: "Nest cameras" } });
  // Less than any app may take.
  await marmot.api(ada, "PATCH", `/projects/${crowded.id}/limits`, { memory_bytes: 64 << 20 });
  const full = await activate(marmot, ada, cameras);
  await page.goto(full.url);
  await page.getByText("No room yet", { exact: true }).waitFor();
  await draw(page, "lobby-no-room");
  // That there is this one, everybody may know.
  await marmot.api(ada, "PUT", `/apps/${full.name}/access`, { open_to: "members" });
  await page.goto(full.url);
  await page.getByText("This app is not shared with you").waitFor();
  await draw(page, "not-allowed");
  await marmot.api(ada, "DELETE", `/apps/${full.name}`);
}

/** The project, with a card in each state, as its owner and as nobody in particular; the question before an app is shut down. */
async function cards({ page, address, launchers }) {
  await page.goto(address);
  await page.getByText(/4 people are using it now/).waitFor();
  await draw(page, "project", { fullPage: true });
  await page.getByLabel(`More for ${launchers.colony.name}`).click();
  await draw(page, "menu");
  await page.keyboard.press("Escape");
  const card = page.getByRole("article", { name: launchers.colony.name });
  await card.getByRole("button", { name: "Shut down" }).click();
  await page.getByRole("dialog").getByText(/4 people are using this app now/).waitFor();
  await draw(page, "shut-down");
  await page.keyboard.press("Escape");
  await card.getByRole("link", { name: "Share…" }).last().click();
  await page.getByRole("img", { name: "QR code of the link" }).waitFor();
  await draw(page, "share");
  await page.keyboard.press("Escape");
}

/** The tabs of an app's own page. */
async function appPages({ page, launchers }) {
  const tabNamed = (name) => page.getByRole("link", { name, exact: true }).first();
  await tabNamed(launchers.colony.name).click();
  await page.getByRole("region", { name: "Replicas" }).getByRole("row").nth(1).waitFor();
  await draw(page, "app", { fullPage: true });
  await tabNamed("Settings").click();
  await draw(page, "app-settings", { fullPage: true });
  await page.goBack();
  await page.goBack();
  await tabNamed(launchers.predictor.name).click();
  await tabNamed("Logs").click();
  await page.getByRole("region", { name: "Log", exact: true }).getByText("POST /predict").first().waitFor();
  await draw(page, "logs");
  await tabNamed("Usage").click();
  await tabNamed("Hour").click();
  await draw(page, "usage", { fullPage: true });
}

async function theRest({ marmot, page, address }) {
  await page.goto(marmot.url);
  await draw(page, "home", { fullPage: true });
  await page.goto(`${address}/settings`);
  await draw(page, "project-settings", { fullPage: true });
  await page.goto(`${marmot.url}/settings`);
  await draw(page, "account", { fullPage: true });
  await page.goto(`${marmot.url}/admin`);
  await draw(page, "this-server", { fullPage: true });
  await page.goto(`${marmot.url}/admin/users`);
  await draw(page, "people");
  await page.goto(`${marmot.url}/admin/audit`);
  await draw(page, "audit");
}

/** A page of somebody else's browser. */
async function tab(browser) {
  return (await browser.newProfile({ viewport: DESKTOP, reducedMotion: "reduce" })).newPage();
}

async function createLaunchers(marmot, user, project, apps) {
  const launchers = {};
  for (const [word, { example, from, name, description, command }] of Object.entries(apps)) {
    const environment = { environment_image_source: "build", repository: await repositoryOf(marmot, example, from), command };
    const launcher = { name, description, project_id: project.id, launcher_type: "app", environment };
    launchers[word] = await marmot.api(user, "POST", "/session_launchers", launcher);
  }
  return launchers;
}

const repositories = new Map();
function repositoryOf(marmot, example, from) {
  if (!repositories.has(example)) repositories.set(example, marmot.repositoryOf(example, from, from && { files: DIARY }));
  return repositories.get(example);
}

async function activate(marmot, user, launcher) {
  return marmot.api(user, "POST", "/apps", { launcher_id: launcher.id });
}

async function reaches(marmot, user, { name }, phase) {
  const there = async () => {
    const app = await marmot.api(user, "GET", `/apps/${name}`);
    if (app.phase !== phase) throw new Error(`it is ${app.phase}: ${app.reason ?? ""}`);
    return app;
  };
  return eventually(`${name} is ${phase}`, there, { within: 300_000 });
}

async function predictions(marmot, app) {
  const headers = { "content-type": "application/json" };
  for (let count = 0; count < 12; count += 1) {
    await marmot.request("POST", "/predict", { host: new URL(app.url).host, headers, body: FLOWER });
  }
}

/** Where the code is said to be: a path on this machine tells a reader nothing. Only in the picture, since an app follows its launcher. */
const SAID = "https://git.example.org/engadine/";

/** Writes what a reader would see in the place of each path of a repository on this machine. */
function moveAway(page) {
  return page.evaluate((said) => {
    const moved = (text) => text.replace(/\/[\w/.-]*\/([\w-]+)(?:\.git)?(?=$|\s)/g, (whole, name) => (whole.startsWith("/tmp/") ? `${said}${name}` : whole));
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) texts.currentNode.data = moved(texts.currentNode.data);
    for (const input of document.querySelectorAll("input, textarea")) input.value = moved(input.value);
  }, SAID);
}

/** In light, in dark and on a phone. */
async function draw(page, name, options = {}) {
  await page.evaluate(() => document.fonts.ready);
  await page.evaluate(() => document.activeElement.blur());
  await picture(page, name, options);
  await page.emulateMedia({ colorScheme: "dark" });
  await picture(page, `${name}-dark`, options);
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize(PHONE);
  await picture(page, `${name}-phone`, options);
  await page.setViewportSize(DESKTOP);
}

/** As WebP, which is a quarter of what PNG takes: by the browser's own protocol, since Playwright knows none. */
async function picture(page, name, { fullPage = false }) {
  await moveAway(page);
  // What is below is fetched when it comes into view.
  if (fullPage) await page.evaluate(() => Promise.all([...document.images].map((image) => ((image.loading = "eager"), image.decode().catch(() => {})))));
  const session = await page.context().newCDPSession(page);
  const { cssContentSize, cssVisualViewport } = await session.send("Page.getLayoutMetrics");
  const seen = { x: cssVisualViewport.pageX, y: cssVisualViewport.pageY, width: cssVisualViewport.clientWidth, height: cssVisualViewport.clientHeight };
  const clip = { ...(fullPage ? cssContentSize : seen), scale: 1 };
  const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality: 80, clip, captureBeyondViewport: fullPage });
  await session.detach();
  await fs.writeFile(path.join(FOLDER, `${name}.webp`), data, "base64");
}
