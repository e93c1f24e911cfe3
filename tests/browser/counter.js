// What a person does in the app of an image, `apps/counter`. Counting goes over its WebSocket.

import { eventually } from "./harness/wait.js";

export const name = "Counter";
/** What its log says once it runs. */
export const line = "burrows are counted";

export async function isOpen(page) {
  await page.getByRole("heading", { name: "Burrow counter" }).waitFor({ timeout: 90_000 });
  await eventually("the session is there", async () => (await page.getByRole("status").innerText()) !== "");
}

export function countConnections(page) {
  const connections = { opened: 0, closed: 0 };
  page.on("websocket", (socket) => {
    connections.opened += 1;
    socket.on("close", () => (connections.closed += 1));
  });
  return connections;
}

export async function sightings(page) {
  return Number(await page.getByRole("status").innerText());
}

export async function countSighting(page) {
  const before = await sightings(page);
  await page.getByRole("button", { name: "Count a sighting" }).click();
  await eventually("the sighting is counted", async () => (await sightings(page)) === before + 1);
}
