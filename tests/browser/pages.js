// What a person does in Marmot's pages, one function each. Everything is found by its role and its name, as a person (or
// a screen reader) finds it, so that a test fails when a page can no longer be used, and not when its markup changes.

/** A first build fetches an app's packages. */
const BUILD = 300_000;

const link = (page, name) => page.getByRole("link", { name, exact: true });
const button = (page, name) => page.getByRole("button", { name, exact: true });

/** From Marmot's front page, whether it shows the form or leads to it. */
export async function signIn(page, url, { username, password }) {
  await page.goto(url);
  const form = page.getByLabel("Username");
  await form.or(link(page, "Sign in").first()).first().waitFor();
  if (!(await form.isVisible())) await link(page, "Sign in").first().click();
  await form.fill(username);
  await page.getByLabel("Password").fill(password);
  await button(page, "Sign in").click();
  await link(page, "New project").first().waitFor();
}

/** Leaves the page at the new project. */
export async function createProject(page, { name, visibility }) {
  await link(page, "New project").first().click();
  await page.getByLabel("Name", { exact: true }).fill(name);
  if (visibility) await page.getByRole("radio", { name: visibility }).check();
  await button(page, "Create project").click();
  await page.getByRole("heading", { name, exact: true }).waitFor();
}

/** From a project's page; leaves the page where the launcher is shown. */
export async function createAppFromCode(page, { name, repository, command }) {
  await link(page, "New launcher").first().click();
  await page.getByRole("radio", { name: "App", exact: true }).check();
  await page.getByRole("radio", { name: "Create from code" }).check();
  await page.getByLabel("Name", { exact: true }).fill(name);
  await page.getByLabel("Repository", { exact: true }).fill(repository);
  if (command) await page.getByLabel("Command", { exact: true }).fill(command);
  await button(page, "Create launcher").click();
  await button(page, "Activate").waitFor();
}

/** From a project's page; leaves the page where the launcher is shown. */
export async function createAppFromImage(page, { name, image }) {
  await link(page, "New launcher").first().click();
  await page.getByRole("radio", { name: "App", exact: true }).check();
  await page.getByRole("radio", { name: "External environment" }).check();
  await page.getByLabel("Name", { exact: true }).fill(name);
  await page.getByLabel("Image", { exact: true }).fill(image);
  await button(page, "Create launcher").click();
  await button(page, "Activate").waitFor();
}

/** From anywhere; leaves the page at a project that is one's own. `name` may be a pattern. */
export async function openProject(page, name) {
  await link(page, "Marmot").first().click();
  await page.getByRole("region", { name: "My projects" }).getByRole("link", { name }).click();
}

/** Waits, through the app's build and its first start, until the page offers to open it. */
export async function isOn(page) {
  await link(page, "Open").waitFor({ timeout: BUILD });
}

/** Switches the app on and waits, through its build and its first start, until the page offers to open it. */
export async function activate(page) {
  await button(page, "Activate").click();
  await isOn(page);
}

/** Opens the app in a tab of its own and returns that tab. `prepare` sees the tab before it has loaded anything. */
export async function open(page, prepare = () => {}) {
  const address = await link(page, "Open").evaluate((element) => element.href);
  const tab = await page.context().newPage();
  prepare(tab);
  await tab.goto(address);
  return tab;
}

/** The link to send to somebody, as it is in the clipboard after the press of a button. */
export async function shareLink(page) {
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await button(page, "Copy link").click();
  await page.getByText("Link copied").waitFor();
  return page.evaluate(() => navigator.clipboard.readText());
}

/** Opens the app's logs, waits until they contain `text`, and goes back. */
export async function readLogs(page, text) {
  await link(page, "Logs").click();
  await page.getByRole("region", { name: "Log", exact: true }).filter({ hasText: text }).waitFor();
  await page.goBack();
}

/** Looks at the app's own page: at its one replica, its one revision, and at what `happened` to it; and goes back. */
export async function appPage(page, name, happened) {
  await link(page, name).first().click();
  await page.getByRole("heading", { name, exact: true, level: 1 }).waitFor();
  const rows = (region) => page.getByRole("region", { name: region }).getByRole("row");
  await rows("Replicas").nth(1).waitFor();
  await rows("Revisions").filter({ hasText: "current" }).waitFor();
  for (const text of happened) await page.getByRole("region", { name: "What happened" }).getByText(text).first().waitFor();
  await page.goBack();
}

/** Waits until the launcher says so, without the page being loaded again. */
export async function saysAsleep(page) {
  await page.getByRole("article").getByText("On, asleep", { exact: true }).waitFor({ timeout: 60_000 });
}

/** Switches the app off for everyone, and says yes to the question whether that is meant. */
export async function shutDown(page) {
  await button(page, "Shut down").click();
  await button(page.getByRole("dialog"), "Yes, switch it off").click();
  await button(page, "Activate").waitFor();
}

/** What the share link of an app that is off leads to. */
export async function sharedIsOff(page, name) {
  await page.getByRole("heading", { name: `${name} is off`, exact: true }).waitFor();
}

/** What the own address of an app that is off leads to. */
export async function addressIsOff(page) {
  await page.getByText("This app is switched off", { exact: true }).waitFor();
}
