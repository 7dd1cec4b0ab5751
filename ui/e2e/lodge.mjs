// Starts a real server with an empty data folder, and a real browser that looks at it.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const START_MS_MAX = 60_000;

/** The server that `LODGE_BIN` names, listening on a port of its own. */
export async function startLodge() {
  const bin = process.env.LODGE_BIN;
  if (!bin) throw new Error('Set LODGE_BIN to the path of the `lodge` binary to test against.');
  const data_dir = await mkdtemp(join(tmpdir(), 'lodge-ui-'));
  const args = ['server', '--data-dir', data_dir, '--listen', '127.0.0.1:0'];
  const child = spawn(bin, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  let output = '';
  const url = await new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`no address in time:\n${output}`)),
      START_MS_MAX,
    );
    const read = (bytes) => {
      output += bytes;
      const found = /Lodge is listening on (http:\/\/\S+)/.exec(output);
      if (found) {
        clearTimeout(timer);
        resolve(found[1]);
      }
    };
    child.stdout.on('data', read);
    child.stderr.on('data', read);
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the server ended with ${code}:\n${output}`)));
  });
  return {
    url,
    async insert(records) {
      const response = await fetch(`${url}/insert/jsonline?_stream_fields=service,host`, {
        method: 'POST',
        body: records.map((record) => JSON.stringify(record)).join('\n'),
      });
      if (!response.ok) throw new Error(`insert: ${response.status} ${await response.text()}`);
    },
    async stop() {
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
      await ended;
      clearTimeout(timer);
      await rm(data_dir, { recursive: true, force: true });
    },
  };
}

export function startBrowser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--no-first-run',
      '--disable-quic',
    ],
  });
}

/**
 * A page on the server. `problems` collects what must never happen: a dialog, an exception, a
 * message of the content security policy.
 */
export async function openPage(browser, options = {}) {
  const context = await browser.newContext({
    viewport: { width: 1440, height: 900 },
    timezoneId: 'Europe/Prague',
    colorScheme: 'dark',
    permissions: ['clipboard-read', 'clipboard-write'],
    ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const problems = [];
  page.on('dialog', (dialog) => {
    problems.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('pageerror', (error) => problems.push(`exception: ${error.message}`));
  page.on('console', (message) => {
    if (/content.security.policy/i.test(message.text())) problems.push(message.text());
  });
  return { page, problems, close: () => context.close() };
}

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What axe-core finds wrong for people who see, hear or move differently; empty when nothing. */
export async function hurdles(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).slice(0, 3)}`);
}

/** Saves a picture of the page where `LODGE_SHOTS` says, if it does. */
export async function shoot(page, name) {
  const folder = process.env.LODGE_SHOTS;
  if (!folder) return;
  await mkdir(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`) });
}
