import { describe, expect, test } from 'vitest';
import { addClause } from '../src/query/edit';
import { parts } from '../src/query/logsql';
import { CLAUSE_CHARS_MAX, patternClause, patternPieces, VARIABLE } from '../src/query/pattern';
import { sparkline, trendText } from '../src/rows/trend';
import { placeFromSearch, searchOf } from '../src/state/address';
import { shareText } from '../src/time/format';

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
      text: '_msg:~`^order (<_>|[A-Za-z0-9]+((-[A-Za-z0-9]+){4})?) placed$`',
      whole: true,
    });
    expect(patternClause('it is "over" now')).toEqual({
      text: '_msg:="it is \\"over\\" now"',
      whole: true,
    });
  });

  test('keeps the messages that have the pattern', () => {
    for (const [pattern, message] of [
      ['GET /user/<_> took <_>', 'GET /user/42 took 17ms'],
      ['<_>.<_>.<_>.<_>:<_>', '10.0.0.1:8080'],
      ['<_>', 'a1b2'],
      ['x_<_>-y', 'x_1-y'],
      ['x_<_>-y', 'x_<_>-y'],
      ['é<_>é', 'é1é'],
      [
        'costs $<_> (or <_>*<_>^<_>) [a|b]{<_>} \\<_> `<_>`',
        'costs $5 (or 4*3^2) [a|b]{1} \\1 `7`',
      ],
      ['two\nlines <_>\tend', 'two\nlines 1\tend'],
      ['paid \u202e<_>.<_>\u202c EUR \u001b[<_>', 'paid \u202e00.1\u202c EUR \u001b[31m'],
      ['a <_><_> b', 'a 1<_> b'],
      ['a <_><_> b', 'a <_>2 b'],
      ['a <_><_> b', 'a <_><_> b'],
      ['a<_>b', 'a<_>b'],
      ['key="<_>"', 'key="v1"'],
      ['<script>alert(<_>)</script>', '<script>alert(1)</script>'],
      ['🐎 <_>', '🐎 3'],
      // Variables that only a built segment knows.
      ['<_>.<_> <_>', '12.50 EUR'],
      ['batch <_> stored', 'batch 33c45d12-0e82-42b4-abcd-43ba09a8dadf stored'],
    ] as const) {
      expect([message, keeps(pattern, message)]).toEqual([message, true]);
      for (const other of [`${message} `, ` ${message}`, `${message}\n`, message.slice(0, -1)]) {
        const kept = keeps(pattern, other);
        // A value that is cut is a value still.
        if (!(pattern.endsWith(VARIABLE) && message.startsWith(other))) {
          expect([other, kept]).toEqual([other, false]);
        }
      }
    }
  });

  test('keeps none of those that come close', () => {
    for (const [pattern, message] of [
      ['order <_> placed', 'order 7-8 placed'],
      ['order <_> placed', 'order  placed'],
      ['order <_> placed', 'order a_1 placed'],
      ['order <_> placed', 'reorder 7 placed'],
      ['order <_> placed', 'order 7 placed\ntwice'],
      ['order <_> placed', 'Order 7 placed'],
      ['<_>.<_>', '1x2'],
      ['a<_>b', 'a1b'],
      ['a <_><_> b', 'a 12 b'],
    ] as const) {
      expect([message, keeps(pattern, message)]).toEqual([message, false]);
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
    for (const long of [`at <_> ${'x'.repeat(CLAUSE_CHARS_MAX)}`, 'y.'.repeat(CLAUSE_CHARS_MAX)]) {
      const { text, whole } = patternClause(long);
      expect(whole).toBe(false);
      expect(text.length).toBeLessThan(CLAUSE_CHARS_MAX + 10);
      expect(keeps(long, long.replaceAll('<_>', '1'))).toBe(true);
      expect(keeps(long, `not ${long}`)).toBe(false);
    }
    // Nothing is cut in two.
    const many = '<_>,'.repeat(CLAUSE_CHARS_MAX);
    expect(keeps(many, '1,'.repeat(CLAUSE_CHARS_MAX))).toBe(true);
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
