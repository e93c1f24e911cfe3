// Chromium, as installed on the machine: nothing is downloaded.

import fs from "node:fs/promises";
import path from "node:path";
import { chromium } from "playwright-core";

const EXECUTABLE = process.env.CHROMIUM ?? "/usr/bin/chromium";
const SCREENSHOTS = process.env.MARMOT_SCREENSHOTS ?? path.resolve(import.meta.dirname, "../../../target/screenshots");

// Chromium's own sandbox needs rights that neither root nor a container has; the pages are our own.
// The others keep it from calling home, which takes time where there is no network.
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export class Browser {
  /** Launches a browser that is closed when the test `t` ends. */
  static async launch(t) {
    const chromiumBrowser = await chromium.launch({ executablePath: EXECUTABLE, args: FLAGS });
    t.after(() => chromiumBrowser.close());
    return new Browser(t, chromiumBrowser);
  }

  #t;
  #browser;

  constructor(t, browser) {
    this.#t = t;
    this.#browser = browser;
  }

  /** A profile of its own: no cookies, no history. Another person at another machine, of which `options` tell. */
  async newProfile(options = {}) {
    const profile = await this.#browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
    profile.setDefaultTimeout(20_000);
    return profile;
  }

  /** Does `steps`; when they fail, keeps a picture of every open page. */
  async watched(steps) {
    try {
      return await steps();
    } catch (error) {
      await this.#keepPictures();
      throw error;
    }
  }

  async #keepPictures() {
    await fs.mkdir(SCREENSHOTS, { recursive: true });
    const pages = this.#browser.contexts().flatMap((profile) => profile.pages());
    for (const [index, page] of pages.entries()) {
      const name = this.#t.name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").slice(0, 60);
      const file = path.join(SCREENSHOTS, `${name}-${index + 1}.png`);
      // A page that cannot be drawn must not hide why the test failed.
      const problem = await page.screenshot({ path: file, fullPage: true }).then(() => "", (error) => error.message);
      this.#t.diagnostic(`${page.url()}: ${problem || file}`);
    }
  }
}
