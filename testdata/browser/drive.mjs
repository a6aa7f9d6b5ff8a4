// Drives Chromium through the story of cmd/e2e's TestBrowser and prints what it
// saw as one JSON object. It judges nothing: the test does.
import { chromium } from 'playwright-core';
import { text } from 'node:stream/consumers';

const { executable, app, cross, neighbour, username, password, mallory } = JSON.parse(await text(process.stdin));
const browser = await chromium.launch({ executablePath: executable, args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'], timeout: 120_000 });
const context = await browser.newContext();
context.setDefaultTimeout(60_000);
const saw = {};

async function open(url, ready = true) {
  const page = await context.newPage();
  await page.goto(url);
  if (ready) await page.waitForSelector('body[data-ready]', { state: 'attached' });
  return page;
}
const call = (page, ...args) => page.evaluate((args) => window.call(...args), args);
const cookies = async () => (await context.cookies(app)).filter((c) => c.name === '__Host-macaroon');
const who = (page) => page.textContent('#who');

try {
  const page = await open(app);
  saw.before = await who(page);
  saw.login = await page.evaluate(([u, p]) => window.login(u, p), [username, password]);
  saw.cookies = await cookies();
  saw.script = await page.evaluate(() => document.cookie);
  saw.elsewhere = (await context.cookies(cross)).length;

  // A reload, and a second tab: the session is there, with its synchronizer token.
  await page.reload();
  await page.waitForSelector('body[data-ready]', { state: 'attached' });
  saw.reloaded = await who(page);
  const tab = await open(app);
  saw.secondTab = await call(tab, 'GET', '/v1/session');

  saw.renamed = await call(page, 'PATCH', '/v1/devices/' + saw.login.body.device.id, { name: 'my browser' });
  saw.read = await call(page, 'GET', '/api/photos');
  saw.written = await call(page, 'POST', '/api/photos', { photo: 1 });
  saw.unprotected = await page.evaluate(async () => {
    const status = async (path, headers) => (await fetch(path, { method: 'POST', headers })).status;
    return {
      own: await status('/v1/logout', {}), api: await status('/api/photos', {}),
      wrong: await status('/v1/logout', { 'X-CSRF-Token': '1.' + 'A'.repeat(43) }),
      bearerToo: await status('/api/photos', { Authorization: 'Bearer AgEA' }),
    };
  });
  saw.live = await page.evaluate(() => window.live());
  saw.liveAgain = await page.evaluate((ticket) => window.live(ticket), saw.live.ticket);
  saw.liveWithout = await page.evaluate(() => window.live('AgEA'));

  // Foreign pages, in the same browser.
  for (const [name, origin] of Object.entries({ cross, neighbour })) {
    const foreign = await open(origin + '/?target=' + encodeURIComponent(app));
    await foreign.evaluate((body) => { window.credentials = body; }, JSON.stringify({ username: mallory, password, device: { name: 'trap' }, mode: 'cookie' }));
    const seen = { attack: await foreign.evaluate(() => window.attack()) };
    for (const path of ['/v1/logout', '/api/photos']) {
      const answer = foreign.waitForNavigation();
      await foreign.evaluate((path) => window.form(path), path);
      seen['form ' + path] = (await answer).status();
      await foreign.goto(origin + '/?target=' + encodeURIComponent(app));
      await foreign.waitForSelector('body[data-ready]', { state: 'attached' });
    }
    await foreign.close();
    seen.cookies = (await cookies()).map((c) => c.value);
    seen.session = await call(page, 'GET', '/v1/session');
    seen.devices = await call(page, 'GET', '/v1/devices');
    saw[name] = seen;
  }
  // A link from another site is no attack: one arrives logged in.
  const linked = await open(cross + '/?target=' + encodeURIComponent(app));
  await linked.evaluate((app) => { location.href = app; }, app);
  await linked.waitForSelector('#who', { state: 'attached' });
  await linked.waitForSelector('body[data-ready]', { state: 'attached' });
  saw.linked = await who(linked);

  saw.logout = await call(tab, 'POST', '/v1/logout');
  saw.cookiesAfter = await cookies();
  saw.after = await call(page, 'GET', '/v1/session');
  saw.readAfter = await call(page, 'GET', '/api/photos');
  // The dead cookie, put back: it goes again.
  await context.addCookies(saw.cookies);
  saw.dead = await call(page, 'GET', '/api/photos');
  saw.cookiesAfterDead = await cookies();
  await context.addCookies(saw.cookies);
  saw.deadOwn = await call(page, 'GET', '/v1/session');
  saw.cookiesAfterDeadOwn = await cookies();
} finally {
  console.log(JSON.stringify(saw));
  await browser.close();
}
