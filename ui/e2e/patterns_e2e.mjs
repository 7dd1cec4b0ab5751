// The patterns of the messages in a real browser against a real server.

import assert from 'node:assert/strict';
import { after, before, beforeEach, afterEach, describe, test } from 'node:test';
import { hurdles, openPage, shoot, startBrowser, startLodge } from './lodge.mjs';
import { alike, hostile, recent } from './records.mjs';

/** Records that `* | patterns` finds: 600 recent ones, 6 hostile ones and 9 alike. */
const ROWS = 615;
const PATTERNS = 14;
/** 540 orders of the recent ones, and the two of those alike that have the pattern. */
const ORDERS = 542;
const ENDPOINT = '**/select/logsql/patterns';

describe('the patterns', () => {
  let lodge;
  let browser;
  let view;
  let page;
  const now_ms = Date.now();

  before(async () => {
    lodge = await startLodge();
    await lodge.insert([...recent(now_ms), ...hostile(now_ms), ...alike(now_ms)]);
    browser = await startBrowser();
  });

  after(async () => {
    await browser?.close();
    await lodge?.stop();
  });

  beforeEach(async () => {
    view = await openPage(browser);
    page = view.page;
  });

  afterEach(async () => {
    assert.deepEqual(view.problems, []);
    await view.close();
  });

  const open = (search) => page.goto(`${lodge.url}/${search}`);
  const done = (text) => page.getByTestId('state').getByText(text).waitFor();
  const list = () => page.getByTestId('patterns');
  const rows = () => list().locator('tr');
  const box = () => page.getByLabel('Search logs with LogsQL');
  const shown = () => new URL(page.url()).searchParams.get('view');
  const cell = (row, name) => row.locator(`.${name}`).first().innerText();

  test('each has its count, share, trend, times and text', async () => {
    await open('?range=6h');
    await done(`${ROWS} rows`);
    await page.getByRole('button', { name: 'Patterns' }).click();
    await done(`${PATTERNS} patterns`);
    await done(`in ${ROWS} messages`);
    const [orders, refused] = [rows().nth(0), rows().nth(1)];
    assert.equal(await cell(orders, 'pattern'), 'order <_> placed');
    assert.equal(await cell(orders, 'count'), String(ORDERS));
    assert.equal(await cell(orders, 'share'), '88.1%');
    assert.equal(await cell(refused, 'pattern'), 'connection refused by gateway-db, order <_>');
    assert.equal(await cell(refused, 'count'), '60');
    assert.deepEqual(await orders.locator('.variable').allTextContents(), ['<_>']);
    const trend = orders.getByRole('img', { name: /^Trend: most at .*; some in \d+ of 30 parts/ });
    assert.match(await trend.locator('path').getAttribute('d'), /^M\d.*z$/);
    const times = await refused.locator('time').evaluateAll((all) => all.map((t) => t.title));
    const at = (i) => Date.parse(recent(now_ms)[i]._time);
    const read = times.map((text) =>
      Date.parse(text.replace(/^(\S+) (\S+?)(\d{6}) (\S+)$/, '$1T$2$4')),
    );
    assert.deepEqual(read, [at(3), at(593)]);
    const clock = () => refused.locator('time').first().innerText();
    const local = await clock();
    await page.keyboard.press('u');
    await list()
      .getByText(new Date(at(3)).toISOString().slice(11, 23))
      .waitFor();
    assert.notEqual(await clock(), local);
    await shoot(page, 'patterns-dark');
  });

  test('log text stays text in a pattern too', async () => {
    await open('?q=service:%3D%22hostile%22&range=6h&view=patterns');
    await done('6 patterns');
    const text = await list().innerText();
    assert.ok(text.includes('<script>alert("script ran")</script><b id="injected">bold</b>'));
    assert.ok(text.includes('{@html alert(<_>)}'));
    assert.ok(text.includes('paid \\u202e<_>.<_>\\u202c EUR \\x1b[<_>\\x1b[<_> bell\\x07'));
    await page.keyboard.press('w');
    await list().locator('button.wrap').first().waitFor();
    assert.equal(await page.locator('#injected').count(), 0);
    assert.equal(await list().locator('script, b, u').count(), 0);
    await shoot(page, 'patterns-hostile');
  });

  test('a click on one shows exactly its records, and back its neighbours', async () => {
    await open('?range=6h&view=patterns');
    await done(`${PATTERNS} patterns`);
    for (let i = 0; i < PATTERNS; i += 1) {
      const row = rows().nth(i);
      const hits = await cell(row, 'count');
      const pattern = await row.locator('.pattern').innerText();
      await row.locator(i % 2 === 0 ? '.pattern button' : '.count').click();
      await done(new RegExp(`^${hits} rows?$`));
      assert.equal(shown(), null);
      if (pattern === 'order <_> placed') {
        const messages = await page.locator('.record .message').allInnerTexts();
        assert.ok(messages.length > 10);
        for (const text of messages) assert.match(text, /^order (\d+|x7y|<_>) placed/);
        assert.match(await box().inputValue(), /^_msg:~`\^order .* placed\$`$/);
      }
      await page.goBack();
      await done(`${PATTERNS} patterns`);
      assert.equal(await box().inputValue(), '*');
    }
  });

  test('the pattern joins what is asked already, and a table gives way to rows', async () => {
    await open('?q=level:%3D"error"+or+gateway+|+stats+count()&range=6h&view=patterns');
    await list().getByText('connection refused by gateway-db').click();
    await done('60 rows');
    assert.match(await box().inputValue(), /^\(level:="error" or gateway\) _msg:~`.*`$/);
  });

  test('the address holds the view: reload, link, back and forward', async () => {
    await open('?q=order&range=6h');
    await done(/^6\d\d rows$/);
    await page.keyboard.press('p');
    await done('7 patterns');
    assert.equal(shown(), 'patterns');
    await page.reload();
    await done('7 patterns');
    await page.getByRole('button', { name: 'Copy link' }).click();
    const link = await page.evaluate(() => navigator.clipboard.readText());
    assert.match(link, /[?&]from=.*&view=patterns$/);
    await page.goto(link);
    await done('7 patterns');
    await page.goBack();
    await done('7 patterns');
    await page.goBack();
    await done(/^6\d\d rows$/);
    await page.goForward();
    await done('7 patterns');
    // What is followed live is rows; asking for patterns ends it.
    await page.keyboard.press('l');
    await page.waitForURL(/live=1/);
    assert.equal(shown(), null);
    await page.keyboard.press('p');
    await done('7 patterns');
    assert.doesNotMatch(page.url(), /live/);
  });

  test('the keyboard alone is enough', async () => {
    await open('?range=6h');
    await done(`${ROWS} rows`);
    await page.keyboard.press('p');
    await done(`${PATTERNS} patterns`);
    for (const key of ['j', 'j', 'k', 'j']) await page.keyboard.press(key);
    const focused = () =>
      page.evaluate(() => document.activeElement.closest('[data-at]')?.dataset.at);
    assert.equal(await focused(), '1');
    await page.keyboard.press('G');
    assert.equal(await focused(), String(PATTERNS - 1));
    await page.keyboard.press('g');
    assert.equal(await focused(), '0');
    await page.keyboard.press('j');
    await page.keyboard.press('Enter');
    await done('60 rows');
    await page.keyboard.press('?');
    const help = page.getByRole('dialog', { name: 'Keyboard' });
    await help.getByText('patterns of the messages, or their rows').waitFor();
  });

  test('a new search aborts the one that runs; Escape stops it; a failure is told', async () => {
    let release;
    const held = new Promise((resolve) => (release = resolve));
    await page.route(ENDPOINT, async (route) => {
      await held;
      await route.continue().catch(() => undefined);
    });
    const aborted = page.waitForEvent('requestfailed', (request) =>
      request.url().endsWith('/patterns'),
    );
    await open('?range=6h&view=patterns');
    await done('Counting patterns…');
    await box().fill('refused');
    await page.keyboard.press('Enter');
    assert.match((await aborted).failure().errorText, /ABORTED/);
    await page.getByTestId('state').click();
    await page.keyboard.press('Escape');
    await done(/^Stopped after/);
    await page.getByText('Stopped: no patterns were counted.').waitFor();
    release();
    await page.getByRole('button', { name: 'Count them' }).click();
    await done('1 pattern');
    await page.unroute(ENDPOINT);
    await page.route(ENDPOINT, (route) =>
      route.fulfill({ status: 503, json: { error: 'the server is too busy' } }),
    );
    await page.getByRole('button', { name: 'Run' }).click();
    const alert = page.getByRole('alert').filter({ hasText: 'The patterns could not be counted' });
    await alert.getByText('the server is too busy').waitFor();
    await done('These patterns are from the search before');
    assert.deepEqual(await hurdles(page), []);
    await page.unroute(ENDPOINT);
    await alert.getByRole('button', { name: 'Try again' }).click();
    await done('1 pattern');
  });

  test('no message, no pattern: it is said why', async () => {
    await open('?q=nosuchwordanywhere&range=6h&view=patterns');
    await page.getByTestId('empty').getByText('No record of any time matches').waitFor();
    await done('0 patterns');
    await box().fill('order and (');
    await page.keyboard.press('Enter');
    await page.locator('#query-error').waitFor();
    assert.equal(await page.getByText('The patterns could not be counted').count(), 0);
  });

  for (const scheme of ['dark', 'light']) {
    test(`nobody is kept out, ${scheme}, wide and narrow`, async () => {
      await page.emulateMedia({ colorScheme: scheme });
      await open('?range=6h&view=patterns');
      await done(`${PATTERNS} patterns`);
      await page.keyboard.press('j');
      assert.deepEqual(await hurdles(page), []);
      await shoot(page, `patterns-${scheme}-active`);
      await page.setViewportSize({ width: 390, height: 844 });
      const wider = () =>
        page.evaluate(() =>
          [...document.querySelectorAll('.answer, .answer *')]
            .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
            .map((e) => e.className),
        );
      assert.deepEqual(await wider(), []);
      assert.deepEqual(await hurdles(page), []);
      await shoot(page, `patterns-${scheme}-narrow`);
    });
  }
});
