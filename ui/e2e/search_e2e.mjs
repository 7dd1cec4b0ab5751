// The search page in a real browser against a real server: what a user does and what they then see.

import assert from 'node:assert/strict';
import { after, before, beforeEach, afterEach, describe, test } from 'node:test';
import { hurdles, openPage, shoot, startBrowser, startLodge } from './lodge.mjs';
import { bulk, BULK_END, BULK_START, hostile, recent } from './records.mjs';

const BULK_ROWS = 50_000;

describe('the search page', () => {
  let lodge;
  let browser;
  let view;
  let page;
  const now_ms = Date.now();

  before(async () => {
    lodge = await startLodge();
    await lodge.insert(recent(now_ms));
    await lodge.insert(hostile(now_ms));
    for (let n = 0; n < BULK_ROWS; n += 10_000) await lodge.insert(bulk(n, n + 10_000));
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
  const state = () => page.getByTestId('state');
  const rows = () => page.locator('.record');
  const done = (text) => state().getByText(text).waitFor();

  async function search(query) {
    await page.getByLabel('Search logs with LogsQL').fill(query);
    await page.keyboard.press('Enter');
  }

  test('a typed query finds its rows, newest first, and marks the words', async () => {
    await open('?range=6h');
    await done('606 rows');
    await search('refused service:="gateway"');
    await done('60 rows');
    const messages = await page.locator('.record .message mark').allTextContents();
    assert.ok(messages.length > 10 && messages.every((text) => text === 'refused'));
    const times = await page.locator('.record time').allTextContents();
    assert.deepEqual(times, [...times].sort().reverse());
    assert.match(page.url(), /q=refused\+service/);
    await page.goBack();
    await done('606 rows');
    assert.equal(await page.getByLabel('Search logs with LogsQL').inputValue(), '*');
    await shoot(page, 'search-dark');
  });

  test('brushing the histogram narrows rows and address, and back undoes it', async () => {
    const fixed = new URLSearchParams({
      q: 'order',
      from: new Date(now_ms - 14 * 60_000).toISOString(),
      to: new Date(now_ms + 60_000).toISOString(),
    });
    await open(`?${fixed}`);
    await done('600 rows');
    const canvas = page.locator('.canvas .u-over');
    const box = await canvas.boundingBox();
    const y = box.y + box.height / 2;
    await page.mouse.move(box.x + box.width * 0.6, y);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.7, y, { steps: 5 });
    await shoot(page, 'brush');
    await page.mouse.move(box.x + box.width * 0.8, y, { steps: 5 });
    await page.mouse.up();
    await page.waitForURL(
      (url) =>
        !url.search.includes(
          fixed.get('to').slice(0, 10) + 'T' + encodeURIComponent(fixed.get('to').slice(11)),
        ),
    );
    const params = new URL(page.url()).searchParams;
    const [from, to] = [Date.parse(params.get('from')), Date.parse(params.get('to'))];
    assert.ok(to - from > 150_000 && to - from < 210_000, `${to - from} ms`);
    const expected = recent(now_ms).filter(({ _time }) => {
      const at = Date.parse(_time);
      return at >= from && at < to;
    }).length;
    await done(`${expected} rows`);
    const times = await page.locator('.record time').evaluateAll((all) => all.map((t) => t.title));
    assert.ok(
      times.every((text) => {
        const at = Date.parse(text.replace(/^(\S+) (\S+?)(\d{6}) (\S+)$/, '$1T$2$4'));
        return at >= from && at < to;
      }),
    );
    await page.goBack();
    await done('600 rows');
  });

  test('an expanded row shows all its fields, and a click filters by one', async () => {
    await open('?q=order+304&range=6h');
    await done(/^1 row$/);
    await rows().first().locator('.line').click();
    const field = (name) => page.locator(`[data-field="${name}"]`);
    assert.equal(await field('duration_ms').locator('.value').innerText(), String((304 * 7) % 900));
    assert.equal(
      await field('_stream').locator('.value').innerText(),
      '{host="web-1",service="inventory"}',
    );
    await shoot(page, 'row');
    await field('trace_id').hover();
    await page.getByRole('button', { name: 'Copy trace_id' }).click();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), 'trace-60');
    await page.getByRole('button', { name: 'Filter for service' }).click();
    await page.waitForURL(/service/);
    assert.equal(
      await page.getByLabel('Search logs with LogsQL').inputValue(),
      'order 304 service:="inventory"',
    );
    // New rows come closed.
    await page.locator('.record.expanded').waitFor({ state: 'detached' });
    await rows().first().locator('.line').click();
    await page.getByRole('button', { name: 'Show trace' }).click();
    await done('5 rows');
    await rows().first().locator('.line').click();
    await page.getByRole('button', { name: 'Show stream' }).click();
    await done('40 rows');
  });

  test('the field list counts values, filters by one and leaves one out', async () => {
    await open('?q=order&range=6h');
    await done('600 rows');
    const list = page.getByRole('complementary', { name: 'Fields' });
    await list.getByRole('button', { name: /^level/ }).click();
    const error = list.locator('.value', { hasText: 'error' });
    await error.waitFor();
    assert.match(await error.innerText(), /60/);
    await error.locator('.keep').click();
    await done('60 rows');
    await list.locator('.value.chosen .keep').click();
    await done('600 rows');
    await error.hover();
    await error.getByRole('button', { name: 'Without error' }).click();
    await done('540 rows');
  });

  test('log text stays text: no element, no dialog, and what is invisible is seen', async () => {
    await open('?q=service:%3D%22hostile%22&range=6h');
    await done('6 rows');
    const text = await page.getByTestId('rows').innerText();
    assert.ok(text.includes('<script>alert("script ran")</script><b id="injected">bold</b>'));
    assert.ok(text.includes('<img src="x" onerror="alert(1)" id="injected">'));
    assert.ok(text.includes('paid \\u202e00.1\\u202c EUR \\x1b[31mred\\x1b[0m bell\\x07'));
    // j starts at the first row and goes down; each is expanded on the way.
    await page.getByTestId('state').click();
    for (let i = 0; i < 6; i += 1) {
      await page.keyboard.press('j');
      await page.keyboard.press('Enter');
    }
    const list = page.getByRole('complementary', { name: 'Fields' });
    await list.getByRole('button', { name: /^host/ }).click();
    await list.locator('.value').first().waitFor();
    await page.waitForTimeout(300);
    assert.equal(await page.locator('#injected').count(), 0);
    assert.equal(await page.getByTestId('rows').locator('script, img, b, u').count(), 0);
    await shoot(page, 'hostile');
  });

  test('what cannot be read is told at its place, and the rows before stay', async () => {
    await open('?range=6h');
    await done('606 rows');
    await search('order and (level:="error"');
    const alert = page.locator('#query-error');
    await alert.waitFor();
    assert.match(await alert.innerText(), /column \d+/);
    const lines = (await alert.locator('pre').innerText()).split('\n');
    assert.match(lines[0], /^order and \(level:="error"/);
    assert.match(lines[1], /^ *\^$/);
    assert.ok((await rows().count()) > 10);
    await state().getByText('These rows are from the search before').waitFor();
    await shoot(page, 'error');
    await search('order');
    await done('600 rows');
    assert.equal(await alert.count(), 0);
  });

  test('a query that counts becomes a table that sorts', async () => {
    await open('?range=6h');
    await search('order | stats by (service) count() as records, max(duration_ms) as slowest');
    const table = page.getByTestId('table');
    await table.getByText('inventory').waitFor();
    await table.getByRole('button', { name: 'service' }).click();
    const first = () => table.locator('tbody td').first().innerText();
    assert.equal(await first(), 'catalog');
    await table.getByRole('button', { name: 'service' }).click();
    assert.equal(await first(), 'payments');
    await shoot(page, 'table');
    await page.getByRole('button', { name: 'Copy CSV' }).click();
    const csv = await page.evaluate(() => navigator.clipboard.readText());
    assert.match(csv, /^service,records,slowest\r\npayments,120,\d+\r\n/);
  });

  test('the live tail shows records as they come, pauses, and goes on', async () => {
    await open('?q=%7Bservice%3D%22live%22%7D&live=1');
    await state().getByText('Live', { exact: true }).waitFor();
    let n = 0;
    const insert = (count) =>
      lodge.insert(
        Array.from({ length: count }, () => ({
          _time: new Date().toISOString(),
          _msg: `beat ${n++}`,
          service: 'live',
          level: 'info',
        })),
      );
    await insert(1);
    await page.getByText('beat 0', { exact: true }).waitFor();
    await insert(100);
    await page.getByText('beat 100', { exact: true }).waitFor();
    await shoot(page, 'live');
    await page.getByTestId('rows').hover();
    await page.mouse.wheel(0, -600);
    await state().getByText('Paused').waitFor();
    await insert(20);
    const resume = page.getByRole('button', { name: /Resume · 20 new/ });
    await resume.waitFor();
    assert.equal(await page.getByText('beat 120', { exact: true }).count(), 0);
    await resume.click();
    await page.getByText('beat 120', { exact: true }).waitFor();
    // Far more than the page holds: the newest stay, and it tells what left.
    for (let i = 0; i < 6; i += 1) await insert(2000);
    await page.getByText(`beat ${n - 1}`, { exact: true }).waitFor();
    await state().getByText('2,121 older rows left the page').waitFor();
    await state().getByText('10,000 rows').waitFor();
    await page.keyboard.press('l');
    await done(/rows$/);
  });

  test('50,000 rows scroll to the end without a row lost, doubled or out of order', async () => {
    const link = new URLSearchParams({ q: 'bulk', from: BULK_START, to: BULK_END });
    // A tall screen needs fewer steps.
    await page.setViewportSize({ width: 1440, height: 1800 });
    await open(`?${link}`);
    await done('1,000 of 50,000 rows');
    const seen = await page.evaluate(async () => {
      const scroller = document.querySelector('[data-testid="rows"]');
      const numbers = new Map();
      // A browser without a screen paints when it likes: nothing here waits for a picture.
      const step = async () => {
        scroller.scrollTop += scroller.clientHeight;
        scroller.dispatchEvent(new Event('scroll'));
        await new Promise((resolve) => setTimeout(resolve, 10));
      };
      const read = () => {
        for (const record of scroller.querySelectorAll('.record')) {
          const text = record.querySelector('.message').textContent;
          numbers.set(Number(record.dataset.number), Number(/bulk record (\d+)/.exec(text)[1]));
        }
      };
      for (const start = performance.now(); performance.now() - start < 240_000;) {
        read();
        const end = document.querySelector('[data-testid="end"]').textContent;
        const at_end = scroller.scrollTop + scroller.clientHeight >= scroller.scrollHeight - 2;
        if (at_end && end.includes('That is all')) break;
        await step();
      }
      return [...numbers].sort((a, b) => a[0] - b[0]);
    });
    await page.getByText('That is all: 50,000 rows.').waitFor();
    assert.equal(seen.length, 50_000);
    assert.deepEqual(
      seen.map(([number]) => number),
      Array.from({ length: 50_000 }, (_, i) => i),
    );
    assert.equal(new Set(seen.map(([, n]) => n)).size, 50_000);
    // Eight share a moment; from moment to moment the time falls.
    const moments = seen.map(([, n]) => Math.floor(n / 8));
    assert.deepEqual(
      moments,
      [...moments].sort((a, b) => b - a),
    );
    await shoot(page, 'scrolled');
  });

  test('an empty result says where the newest match is, and goes there', async () => {
    await open('?q=bulk&range=5m');
    const empty = page.getByTestId('empty');
    await empty.getByText('The newest match is from').waitFor();
    await shoot(page, 'empty');
    await empty.getByRole('button', { name: 'Go there' }).click();
    await page.locator('.record').first().waitFor();
    await search('nosuchwordanywhere');
    await empty.getByText('No record of any time matches').waitFor();
  });

  test('all time reaches from the first to the last record', async () => {
    await open('?q=*&range=all');
    await done(/^1,000 of [56]\d,\d{3} rows$/);
  });

  test('the keyboard alone is enough', async () => {
    await open('?q=order&range=6h');
    await done('600 rows');
    await page.keyboard.press('j');
    await page.keyboard.press('j');
    await page.keyboard.press('k');
    await page.keyboard.press('j');
    assert.equal(
      await page.evaluate(() => document.activeElement.parentElement.dataset.number),
      '1',
    );
    await page.keyboard.press('Enter');
    await page.locator('.record.expanded .detail').waitFor();
    await page.keyboard.press('Escape');
    await page.locator('.record.expanded').waitFor({ state: 'detached' });
    await page.keyboard.press('?');
    await page.getByRole('dialog', { name: 'Keyboard' }).waitFor();
    await shoot(page, 'help');
    await page.keyboard.press('Escape');
    await page.keyboard.press('/');
    await page.keyboard.type('order 17');
    await page.keyboard.press('Enter');
    await done(/^1 row$/);
    await page.keyboard.press('Escape');
    await page.keyboard.press('t');
    await page.getByRole('dialog', { name: 'Time range' }).waitFor();
    await page.keyboard.press('Control+A');
    await page.keyboard.type('now-1h');
    await page.keyboard.press('Enter');
    await page.waitForURL(/from=/);
    await done(/^1 row$/);
  });

  test('dark and light follow the system and can be chosen; UTC and local times too', async () => {
    await open('?q=order&range=6h');
    await done('600 rows');
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const dark = await ground();
    await page.emulateMedia({ colorScheme: 'light' });
    const light = await ground();
    assert.notEqual(dark, light);
    await shoot(page, 'search-light');
    await page.keyboard.press('d');
    assert.equal(await ground(), dark);
    await page.reload();
    await done('600 rows');
    assert.equal(await ground(), dark);
    const hour = async () =>
      Number((await page.locator('.record time').first().innerText()).slice(0, 2));
    const local = await hour();
    await page.keyboard.press('u');
    assert.ok([1, 2].includes((local - (await hour()) + 24) % 24));
  });

  for (const scheme of ['dark', 'light']) {
    test(`nobody is kept out, ${scheme}: names, roles and contrast`, async () => {
      await page.emulateMedia({ colorScheme: scheme });
      await open('?q=order&range=6h');
      await done('600 rows');
      await rows().nth(2).locator('.line').click();
      await page.getByRole('button', { name: /^level/ }).click();
      await page.locator('.value').first().waitFor();
      assert.deepEqual(await hurdles(page), []);
      await page.getByRole('button', { name: 'Syntax' }).click();
      assert.deepEqual(await hurdles(page), []);
      await search('order and (');
      await page.locator('#query-error').waitFor();
      assert.deepEqual(await hurdles(page), []);
      await search('order | stats by (service) count() as records');
      await page.getByTestId('table').waitFor();
      assert.deepEqual(await hurdles(page), []);
    });
  }

  test('lines wrap, and the syntax sheet runs its examples', async () => {
    await open('?q=pool+or+order&range=6h');
    await done('601 rows');
    await page.keyboard.press('w');
    const tall = page.locator('.record', { hasText: 'pool exhausted' }).locator('.line');
    await page.waitForFunction(() =>
      [...document.querySelectorAll('.line')].some((line) => line.offsetHeight > 60),
    );
    assert.equal(await tall.count(), 1);
    await page.getByRole('button', { name: 'Syntax' }).click();
    await shoot(page, 'syntax');
    for (const query of await page.locator('#cheat-sheet code').allTextContents()) {
      const body = new URLSearchParams({ query, limit: '1' });
      const response = await fetch(`${lodge.url}/select/logsql/query`, { method: 'POST', body });
      assert.equal(response.status, 200, `${query}: ${await response.text()}`);
    }
    await page.getByRole('button', { name: /stats by \(level\)/ }).click();
    await page.getByTestId('table').getByText('info').waitFor();
  });
});
