// The dashboard as a person has it: real Chromium before the real routes. Time on the service's side is a manual clock;
// a hold lasts as long as a finger's.
import type { Browser, Page } from 'playwright-core';
import t from 'tap';
import { launchBrowser, NO_BROWSER, openDashboard } from '../support/browser.ts';
import { startService } from '../support/real-service.ts';
import { bearer, INTERVAL_MS, OWN_TOKEN, startApp, type TestApp } from '../support/test-app.ts';

t.setTimeout(300_000);
let browser: Browser;
t.before(async () => {
  if (NO_BROWSER === false) browser = await launchBrowser();
});
t.teardown(() => browser?.close());
const inBrowser = { skip: NO_BROWSER };

const HOT = { kind: 'gpu-temperature', gpu: 1, valueC: 86.25 } as const;
const stopButton = (page: Page) => page.getByRole('button', { name: /^STOP EVERYTHING/ });
const word = (page: Page, text: string) => page.getByRole('heading', { level: 1, name: text, exact: true }).waitFor();
const see = (page: Page, text: string | RegExp) => page.getByText(text).first().waitFor();

/** What an operator asks of the rig, over the network. */
async function simulate(url: string, change: unknown): Promise<void> {
  const headers = { ...bearer(OWN_TOKEN), 'content-type': 'application/json' };
  const answer = await fetch(`${url}/simulation`, { method: 'POST', headers, body: JSON.stringify(change) });
  if (answer.status !== 200) throw new Error(await answer.text());
}

async function giveToken(page: Page, token: string): Promise<void> {
  await page.getByRole('button', { name: 'Token', exact: true }).click();
  await page.getByRole('textbox', { name: 'Token' }).fill(token);
  await page.getByRole('button', { name: 'Use it' }).click();
}

/** Holds the mouse button on the stop for some time. */
async function holdMouse(page: Page, ms: number): Promise<void> {
  await stopButton(page).hover();
  await page.mouse.down();
  await page.waitForTimeout(ms);
  await page.mouse.up();
}

const isTripped = ({ supervisor }: TestApp): boolean => supervisor.state.trips.size > 0;

t.test('the dashboard says SAFE, why and how close, of a healthy rig, and asks nobody else', inBrowser, async (t) => {
  const app = await startApp(t);
  const { url } = await app.listen();
  const { page, faults, elsewhere } = await openDashboard(t, browser, url);
  await word(page, 'SAFE');
  t.match(await page.title(), /SAFE/);
  for (const text of ['PROCEED', 'Every check passes', 'How close', 'What to do', 'SIMULATED', 'GPU 01:00.0']) {
    await see(page, text);
  }
  await see(page, /not a certified emergency stop/);
  const limits = await page.locator('.parts .meter-limits').allInnerTexts();
  t.ok(limits.some((text) => /warning 80 · stop 85 °C/.test(text)));
  t.ok(limits.some((text) => /warning 250 · stop 300 W/.test(text)));
  t.ok(limits.some((text) => /max 90 %/.test(text)));
  t.ok((await page.locator('.chart canvas').count()) >= 6, 'the last hour, drawn');
  await see(page, /Only what this page has seen since it was opened/);
  await app.pass(INTERVAL_MS);
  await see(page, /Judged 0 s ago|Judged 1 s ago/);
  t.same(faults, [], 'nothing was refused by the content policy, and no script failed');
  t.same(elsewhere, [], 'no other host was asked');
  t.notMatch(await page.content(), /(?:src|href)="https?:/);
});

t.test('the dashboard follows a rig that heats up: WAIT, then STOPPED', inBrowser, async (t) => {
  const app = await startApp(t);
  const { url } = await app.listen();
  const { page, faults } = await openDashboard(t, browser, url);
  await word(page, 'SAFE');
  await simulate(url, { faults: [{ kind: 'gpu-temperature', gpu: 1, valueC: 81.5 }] });
  await app.pass(INTERVAL_MS);
  await word(page, 'WAIT');
  await see(page, /GPU 02:00\.0 on bizon1 is at 81\.5 °C, warning is 80 °C/);
  await see(page, '3.5 °C below the hard stop');
  t.match(await page.locator('[role=status]').allInnerTexts(), /WAIT\. Workloads are told to pause/, 'announced');
  t.equal(await page.locator('.node-card .level-warning .meter-word').first().textContent(), 'WARNING', 'in words');
  await see(page, 'cooling-started');
  await simulate(url, { faults: [HOT] });
  await app.pass(3_000);
  await word(page, 'STOPPING');
  t.match(await page.locator('.sr-only[role=alert]').allInnerTexts(), /STOPPING/, 'announced at once');
  app.actuator.verify();
  await word(page, 'STOPPED');
  await see(page, 'a hard stop was reached');
  await see(page, /Verified: everything in scope/);
  t.same(faults, []);
});

t.test('the stop button does nothing for a click or a short hold, and trips when it is held', inBrowser, async (t) => {
  const app = await startApp(t);
  const { url } = await app.listen();
  const { page } = await openDashboard(t, browser, url);
  await word(page, 'SAFE');
  await stopButton(page).click();
  await see(page, /Not stopped: let go too early/);
  await holdMouse(page, 600);
  await stopButton(page).hover();
  await page.mouse.down();
  await page.mouse.move(20, 700);
  await page.waitForTimeout(1_300);
  await page.mouse.up();
  await stopButton(page).focus();
  await page.keyboard.press('Enter');
  await page.keyboard.press('Space');
  await page.keyboard.down('Space');
  await page.waitForTimeout(300);
  await page.keyboard.press('Tab');
  await page.waitForTimeout(1_000);
  await page.keyboard.up('Space');
  // What assistive technology, or a script of somebody else's, sends.
  await stopButton(page).dispatchEvent('click');
  t.notOk(isTripped(app), 'not by a click, an early release, moving away, a key-press or a lost focus');
  await holdMouse(page, 1_150);
  await see(page, 'Stop latched');
  t.ok(isTripped(app), 'held for a second');
  await word(page, 'STOPPING');
  await see(page, 'Emergency stop held on the dashboard');
  t.equal([...app.supervisor.state.trips.values()][0]?.by, 'local', 'without any token, on this machine');
});

for (const key of ['Space', 'Enter']) {
  t.test(`the stop button trips when ${key} is held`, inBrowser, async (t) => {
    const app = await startApp(t);
    const { page } = await openDashboard(t, browser, (await app.listen()).url);
    await word(page, 'SAFE');
    await stopButton(page).focus();
    await page.keyboard.down(key);
    await page.waitForTimeout(1_150);
    await page.keyboard.up(key);
    await see(page, 'Stop latched');
    t.ok(isTripped(app));
  });
}

t.test('the stop button trips under a finger that stays, on a phone', inBrowser, async (t) => {
  const app = await startApp(t);
  const phone = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };
  const { page } = await openDashboard(t, browser, (await app.listen()).url, phone);
  await word(page, 'SAFE');
  const box = await stopButton(page).boundingBox();
  t.ok(box && box.y > 700 && box.y + box.height <= 844, 'within reach of a thumb');
  const wide = await page.evaluate('document.documentElement.scrollWidth');
  t.ok(Number(wide) <= 390, `nothing is wider than the screen (${wide})`);
  const session = await page.context().newCDPSession(page);
  const touchPoints = [{ x: (box?.x ?? 0) + 60, y: (box?.y ?? 0) + 20 }];
  const touch = async (ms: number): Promise<void> => {
    await session.send('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints });
    await page.waitForTimeout(ms);
    await session.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] });
  };
  await touch(500);
  await see(page, /Not stopped: let go too early/);
  t.notOk(isTripped(app));
  await touch(1_200);
  await see(page, 'Stop latched');
  t.ok(isTripped(app));
});

t.test('a reset is refused with everything that is still wrong, and done once all is well', inBrowser, async (t) => {
  const app = await startApp(t);
  const { url } = await app.listen();
  const { page, faults } = await openDashboard(t, browser, url);
  await word(page, 'SAFE');
  await simulate(url, { faults: [HOT, { ...HOT, gpu: 0 }] });
  await app.pass(INTERVAL_MS + 3_000);
  await word(page, 'STOPPING');
  const button = page.getByRole('button', { name: 'Reset this trip' });
  t.ok(await button.isDisabled(), 'no token, no reset');

  await giveToken(page, 'not-the-token');
  await see(page, /the bearer token is not known here/);
  await page.getByRole('textbox', { name: 'Token' }).fill(OWN_TOKEN);
  await page.getByRole('button', { name: 'Use it' }).click();
  await page.locator('dialog').waitFor({ state: 'hidden' });
  t.notMatch(page.url(), /token|vsf_/, 'never in the address');
  await page.getByLabel('Why is it safe again?').fill('both fans replaced');
  await button.click();
  await see(page, 'Still wrong:');
  const still = (await page.locator('.refusal li').allInnerTexts()).join('\n');
  t.match(still, /GPU 01:00\.0 on bizon1 is at 86\.25? °C/);
  t.match(still, /GPU 02:00\.0 on bizon1 is at 86\.25? °C/);
  t.match(still, /stop|verified/i, 'and that nobody has seen it stop');
  t.ok(isTripped(app));

  await simulate(url, { faults: [] });
  app.actuator.verify();
  await app.pass(INTERVAL_MS);
  await word(page, 'STOPPED');
  await button.click();
  await page.locator('#trips').waitFor({ state: 'detached' });
  t.notOk(isTripped(app));
  t.match(app.supervisor.state.lastTrip, { resetReason: 'both fans replaced', resetBy: /^token:/ });
  t.same(faults, []);
});

t.test(
  'a stop that nobody saw end is reset only by saying so, and a drill lists and touches nothing',
  inBrowser,
  async (t) => {
    const app = await startApp(t);
    const { url } = await app.listen();
    const lease = { workload: 'burn-7', intensity: 0.5, ttlSeconds: 300 };
    await app.ask({ method: 'POST', url: '/leases', payload: lease });
    const { page } = await openDashboard(t, browser, url);
    await giveToken(page, OWN_TOKEN);
    await see(page, 'burn-7');
    await page.getByRole('button', { name: 'Run a drill' }).click();
    await see(page, /1 would be stopped/);
    t.notOk(isTripped(app), 'only listed');
    t.equal(app.actuator.orders.length, 0);

    await app.ask({ method: 'POST', url: '/estop' });
    await app.pass(31_000);
    await word(page, 'STOP UNVERIFIED');
    await page.getByLabel('Why is it safe again?').fill('looked myself');
    await page.getByText('The stop is not verified').click();
    await page.getByLabel(/I have looked at the machine myself/).check();
    await page.getByRole('button', { name: 'Reset this trip' }).click();
    await page.locator('#trips').waitFor({ state: 'detached' });
    t.notOk(isTripped(app));
  },
);

t.test('a lost connection is loud, nothing stays green, and it comes back by itself', inBrowser, async (t) => {
  const args = ['--source', 'simulated'];
  const config = 'interval: 1s\nfastInterval: 1s\n';
  const first = await startService(t, { args, config });
  const { page } = await openDashboard(t, browser, first.url);
  await word(page, 'SAFE');
  first.child.kill('SIGSTOP');
  await word(page, 'OLD');
  await see(page, /Take it that it is not safe/);
  t.equal(await page.locator('.banner.tone-safe').count(), 0, 'a service that hangs leaves nothing green');
  first.child.kill('SIGCONT');
  await word(page, 'SAFE');

  await first.stop('SIGKILL');
  await word(page, 'NO CONTACT');
  await see(page, /Connection lost/);
  t.match(await page.title(), /NO CONTACT \(not live\)/);
  t.equal(await page.locator('main.stale').count(), 1);
  t.equal(await page.locator('.tone-safe.banner, .top .tone-safe').count(), 0);
  await holdMouse(page, 1_150);
  await see(page, 'NOT STOPPED YET.');
  await page.getByRole('button', { name: 'Stop trying' }).click();
  const port = new URL(first.url).port;
  await startService(t, { args: [...args, '--port', port], config });
  await word(page, 'SAFE');
  t.equal(await page.locator('main.stale').count(), 0);
});

t.test('a page that is opened after a restart shows what was before, from the history', inBrowser, async (t) => {
  const config = 'interval: 1s\nfastInterval: 1s\n';
  const first = await startService(t, { args: ['--source', 'simulated'], config });
  const { tripId } = (await first.post('/estop', { reason: 'smoke from GPU 2' })).body;
  const reset = { tripId, reason: 'GPU 2 replaced', acknowledgeUnverified: true };
  await first.until(
    'the reset',
    () => first.operate('/estop/reset', reset),
    ({ status }) => status === 200,
  );
  await first.until(
    'some figures on the disk',
    () => first.get('/history'),
    ({ body }) => body.at?.length >= 5,
  );
  await first.stop('SIGTERM');
  const startedMs = Date.now();
  const second = await startService(t, { args: ['--source', 'simulated'], config, stateDir: first.stateDir });
  const { page, faults } = await openDashboard(t, browser, second.url);
  await word(page, 'SAFE');
  await see(page, /Stopping everything: smoke from GPU 2/);
  await see(page, /GPU 2 replaced/);
  t.equal(await page.getByText(/Only what/).count(), 0, 'nothing is said to be missing');
  const history = (await second.get('/history')).body;
  t.ok(history.at.filter((ms: number) => ms < startedMs).length >= 5, 'the charts begin before the restart');
  t.same(faults, []);
});

t.test('off loopback the page says that it is locked, and a viewer’s token opens it', inBrowser, async (t) => {
  const app = await startApp(t, { listen: { host: '0.0.0.0', hosts: ['127.0.0.1'] } });
  const { page, faults } = await openDashboard(t, browser, (await app.listen()).url);
  await word(page, 'LOCKED');
  t.equal(await page.locator('.tone-safe').count(), 0);
  await giveToken(page, 'viewer-token-0123456789');
  await word(page, 'SAFE');
  await holdMouse(page, 1_150);
  await see(page, /NOT STOPPED YET\./);
  await see(page, /workload is needed/);
  t.notOk(isTripped(app));
  t.same(faults, []);
});
