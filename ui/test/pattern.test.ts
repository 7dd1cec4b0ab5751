import { describe, expect, test } from 'vitest';
import { addClause } from '../src/query/edit';
import { parts } from '../src/query/logsql';
import { CLAUSE_CHARS_MAX, patternClause, patternPieces } from '../src/query/pattern';
import { sparkline, trendText } from '../src/rows/trend';
import { placeFromSearch, searchOf } from '../src/state/address';
import { shareText } from '../src/time/format';

/** What the server makes of a message: crates/segment/src/pattern.rs. */
function patternOf(message: string): string {
  return message.replace(/[A-Za-z0-9]+/g, (run) => (/[0-9]/.test(run) ? '<_>' : run));
}

/** Whether the clause of a pattern keeps a message, as the engine would decide. */
function keeps(pattern: string, message: string): boolean {
  const { text } = patternClause(pattern);
  const expression = /^_msg:~`(.*)`$/.exec(text)?.[1];
  if (expression === undefined) return text === `_msg:=${JSON.stringify(message)}`;
  const source = expression.replace(/\\x\{([0-9a-f]+)\}/g, '\\u{$1}');
  return new RegExp(source, 'u').test(message);
}

describe('the clause of a pattern', () => {
  test('reads as what it asks for', () => {
    expect(patternClause('order <_> placed')).toEqual({
      text: '_msg:~`^order (<_>|[A-Za-z]*[0-9][A-Za-z0-9]*) placed$`',
      whole: true,
    });
    expect(patternClause('it is "over" now')).toEqual({
      text: '_msg:="it is \\"over\\" now"',
      whole: true,
    });
  });

  test('keeps exactly the messages that have the pattern', () => {
    const messages = [
      'GET /user/42 took 17ms',
      'GET /user/42 took 17ms ',
      ' GET /user/42 took 17ms',
      'GET /user/me took 17ms',
      'GET /user/x4y took a1',
      'GET /user/4-2 took 17ms',
      '10.0.0.1:8080',
      '10.0.0.1:http',
      'a1b2',
      'x_1-y',
      'x_<_>-y',
      'é1é',
      'costs $5 (or 4*3^2) [a|b]{1} \\1 `7`',
      'two\nlines 1\tend',
      'paid \u202e00.1\u202c EUR \u001b[31m',
      'a <_> b',
      'a 12 b',
      'a 1<_> b',
      'a <_>2 b',
      'a <_><_> b',
      'a<_>b',
      'a1b',
      'key="v1"',
      '<script>alert(1)</script>',
      '🐎 3',
    ];
    for (const message of messages) {
      const pattern = patternOf(message);
      for (const other of messages) {
        expect([other, keeps(pattern, other)]).toEqual([other, patternOf(other) === pattern]);
      }
    }
  });

  test('stands in a query as one clause, before its pipes', () => {
    for (const pattern of ['a | b <_>', 'say "<_>" or `<_>`', "it's (<_>", '{<_>} \\']) {
      const { text } = patternClause(pattern);
      const query = addClause('error or warn | limit 5', text);
      expect(query).toBe(`(error or warn) ${text} | limit 5`);
      expect(parts(query)).toMatchObject({ pipes: '| limit 5', has_or: false });
    }
  });

  test('asks for the beginning where the pattern is too long, and says so', () => {
    const long = `at <_> ${'x'.repeat(CLAUSE_CHARS_MAX)}`;
    const { text, whole } = patternClause(long);
    expect(whole).toBe(false);
    expect(text).toMatch(/^_msg:~`\^at .*x`$/);
    const plain = patternClause('y'.repeat(CLAUSE_CHARS_MAX + 1));
    expect(plain).toEqual({ text: `_msg:="${'y'.repeat(CLAUSE_CHARS_MAX)}"*`, whole: false });
    // The cut is within `<_>`.
    const cut = patternClause(`${'z'.repeat(CLAUSE_CHARS_MAX - 1)}<_>`);
    expect(cut.text).toBe(`_msg:="${'z'.repeat(CLAUSE_CHARS_MAX - 1)}"*`);
  });
});

test('the pieces of a pattern are the whole pattern', () => {
  const pattern = '<_>.<_> <b>x</b> <_';
  expect(patternPieces(pattern).map(({ kind }) => kind)).toEqual([
    'variable',
    'literal',
    'variable',
    'literal',
  ]);
  expect(
    patternPieces(pattern)
      .map(({ text }) => text)
      .join(''),
  ).toBe(pattern);
  expect(patternPieces('')).toEqual([]);
});

describe('the trend', () => {
  test('is bars from the ground up, none too small to be seen', () => {
    expect(sparkline([0, 10, 5], 30, 10)).toBe('M10 10v-10h9v10zM20 10v-5h9v5z');
    expect(sparkline([1, 1000], 20, 10)).toBe('M0 10v-1.5h9v1.5zM10 10v-10h9v10z');
    // Narrow bars have no gap.
    expect(sparkline([1, 1], 2, 10)).toBe('M0 10v-10h1v10zM1 10v-10h1v10z');
    expect(sparkline([0, 0], 30, 10)).toBe('');
    expect(sparkline([], 30, 10)).toBe('');
  });

  test('is told in words too', () => {
    const scale = { start_ms: Date.UTC(2026, 0, 31, 14, 0), step_ms: 30_000 };
    expect(trendText([0, 3, 1200, 0], scale, 'utc')).toBe(
      'most at 2026-01-31 14:01:00: 1,200 in 30s; some in 2 of 4 parts of the time',
    );
    expect(trendText([1], { ...scale, step_ms: 13.4 * 3_600_000 }, 'utc')).toMatch(/1 in 13h;/);
    expect(trendText([0, 0], scale, 'utc')).toBe('no trend');
    expect(trendText([], scale, 'utc')).toBe('no trend');
  });
});

test('a share is never rounded to nothing or to all', () => {
  expect([0, 0.0001, 0.125, 0.99999, 1].map(shareText)).toEqual([
    '0%',
    '<0.1%',
    '12.5%',
    '>99.9%',
    '100%',
  ]);
});

test('the address tells rows from patterns; what is followed live is rows', () => {
  expect(placeFromSearch('?q=a').view).toBe('rows');
  expect(placeFromSearch('?q=a&view=patterns').view).toBe('patterns');
  expect(placeFromSearch('?q=a&view=patterns&live=1').view).toBe('rows');
  expect(placeFromSearch('?q=a&view=<script>').view).toBe('rows');
  const place = placeFromSearch('?q=a&view=patterns&range=1h');
  expect(placeFromSearch(searchOf(place))).toEqual(place);
});
