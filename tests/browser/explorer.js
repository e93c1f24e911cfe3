// What a person does in the Streamlit example, `examples/streamlit-explorer`. Every step goes over its WebSocket.

import { eventually } from "./harness/wait.js";

export const name = "Explorer";
/** What its log says once it runs. */
export const line = "You can now view your Streamlit app";

/** The first load brings many scripts, and the app may have to start first. */
export async function isOpen(page) {
  await page.getByRole("heading", { name: "Colony explorer" }).waitFor({ timeout: 90_000 });
  await page.getByTestId("stVegaLiteChart").locator("canvas, svg").first().waitFor({ timeout: 60_000 });
  await sightings(page);
}

/** Counts the WebSockets that the page opens from now on: a session that is kept needs no second one. */
export function countConnections(page) {
  const connections = { opened: 0, closed: 0 };
  page.on("websocket", (socket) => {
    if (!socket.url().includes("/_stcore/stream")) return;
    connections.opened += 1;
    socket.on("close", () => (connections.closed += 1));
  });
  return connections;
}

/** Kept by the app, in this visitor's session alone. */
export async function sightings(page) {
  const metric = page.getByTestId("stMetric").filter({ hasText: "Sightings in this session" });
  // While Streamlit draws anew, what was there before may be there still.
  return Number(await metric.getByTestId("stMetricValue").last().innerText());
}

export async function countSighting(page) {
  const before = await sightings(page);
  await page.getByRole("button", { name: "Count a sighting" }).click();
  await eventually("the sighting is counted", async () => (await sightings(page)) === before + 1);
}

export async function addNote(page, text) {
  await page.getByLabel("Note", { exact: true }).fill(text);
  await page.getByRole("button", { name: "Add note" }).click();
  await page.getByRole("listitem").filter({ hasText: text }).waitFor();
}

export async function notes(page) {
  return page.getByRole("main").getByRole("listitem").allInnerTexts();
}

/** Moves the slider by one and waits for the chart's caption to follow. */
export async function smoothMore(page) {
  const caption = page.getByText(/^Averaged over \d+ week/);
  const [weeks] = (await caption.innerText()).match(/\d+/);
  await page.getByRole("slider", { name: "Smooth over weeks" }).press("ArrowRight");
  await page.getByText(`Averaged over ${Number(weeks) + 1} weeks.`).waitFor();
}

/** Sends a file through the uploader: an HTTP request of its own beside the WebSocket. */
export async function upload(page, name, csv) {
  const file = { name, mimeType: "text/csv", buffer: Buffer.from(csv) };
  await page.getByTestId("stFileUploader").locator("input[type=file]").setInputFiles(file);
  const [header, ...rows] = csv.trim().split("\n");
  await page.getByText(`${name}: ${rows.length} rows, ${header.split(",").length} columns`).waitFor();
}
