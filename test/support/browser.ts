// Debian's Chromium, headless, and a page of it that tells what a person would not notice: errors on the console, what
// the content policy refused, and whatever it asked of another host.
import { existsSync } from 'node:fs';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const executable = PLACES.find(existsSync);

/** `false` where there is a browser; else why tests that need one are skipped. */
export const NO_BROWSER: string | false =
  executable === undefined && `needs Chromium, and there is none of ${PLACES.join(', ')}: apt-get install chromium`;

/** One browser for a file of tests. */
export function launchBrowser(): Promise<Browser> {
  if (executable === undefined) throw new Error('there is no browser');
  return chromium.launch({
    executablePath: executable,
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-background-networking', '--force-color-profile=srgb'],
  });
}

export interface OpenPage {
  readonly page: Page;
  /** Errors of the page's script and violations of its content policy. */
  readonly faults: string[];
  /** Addresses that are not the service's. */
  readonly elsewhere: string[];
}

interface Test {
  teardown(handler: () => unknown): void;
}

const TELL_VIOLATIONS = `document.addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) =>
  console.error('refused by the content policy: ' + violatedDirective + ' ' + blockedURI))`;

/** Opens the dashboard of a service in a fresh profile; closed after `t`. */
export async function openDashboard(
  t: Test,
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<OpenPage> {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  t.teardown(() => context.close());
  const page = await context.newPage();
  const faults: string[] = [];
  const elsewhere: string[] = [];
  page.on('pageerror', (error) => faults.push(String(error)));
  page.on('console', (message) => {
    if (message.type() === 'error' && !/Failed to load resource|WebSocket connection/.test(message.text())) {
      faults.push(message.text());
    }
  });
  page.on('request', (request) => {
    if (new URL(request.url()).host !== new URL(url).host) elsewhere.push(request.url());
  });
  page.on('websocket', (socket) => {
    if (new URL(socket.url()).host !== new URL(url).host) elsewhere.push(socket.url());
  });
  await page.addInitScript(TELL_VIOLATIONS);
  await page.goto(url);
  return { page, faults, elsewhere };
}
