import { describe, expect, test } from 'vitest';
import { fullTime, momentText, rangeText, rowTime, shortCount } from '../src/time/format';
import {
  boundsOf,
  durationText,
  parseDuration,
  parseMoment,
  PRESETS,
  rangeFromParams,
  rangeToParams,
  stepFor,
  type TimeRange,
} from '../src/time/range';

const NOW = Date.UTC(2026, 0, 31, 14, 5, 9, 250);
const at = (...parts: [number, number, number, number?, number?, number?, number?]) =>
  Date.UTC(...parts);

describe('parseMoment', () => {
  const cases: [string, number | null][] = [
    ['now', NOW],
    ['now-15m', NOW - 900_000],
    ['-2h', NOW - 7_200_000],
    ['90s ago', NOW - 90_000],
    ['now+1m', NOW + 60_000],
    ['14:00', at(2026, 0, 31, 14)],
    ['9:07:30', at(2026, 0, 31, 9, 7, 30)],
    ['2026-01-30', at(2026, 0, 30)],
    ['2026-01-30 23:59', at(2026, 0, 30, 23, 59)],
    ['2026-01-30T23:59:58.123456789', at(2026, 0, 30, 23, 59, 58, 123)],
    ['2026-01-30T23:59:58.123456789Z', at(2026, 0, 30, 23, 59, 58, 123)],
    ['2026-01-30T23:59:58+02:00', at(2026, 0, 30, 21, 59, 58)],
    ['1769868309', 1769868309000],
    ['1769868309250', 1769868309250],
    ['1769868309250000', 1769868309250],
    ['1769868309250000000', 1769868309250],
    ['2026-02-31', null],
    ['25:00', null],
    ['yesterday', null],
    ['', null],
    ['now-', null],
    ['now-5x', null],
  ];
  test.each(cases)('%s', (text, expected) => expect(parseMoment(text, NOW, 'utc')).toBe(expected));

  test('reads back what is written', () => {
    for (const zone of ['utc', 'local'] as const) {
      for (const ms of [NOW, NOW - 250, 0, at(2100, 11, 31, 23, 59, 59, 999)]) {
        expect(parseMoment(momentText(ms, zone), NOW, zone)).toBe(ms);
      }
    }
  });
});

describe('durations', () => {
  test('parse and write', () => {
    expect(parseDuration('1h30m')).toBe(5_400_000);
    expect(durationText(5_400_000)).toBe('90m');
    expect(durationText(86_400_000)).toBe('24h');
    for (const text of ['', 'm', '5', '-5m', '0s', '5 m', '1e9d'])
      expect(parseDuration(text)).toBeNull();
  });

  test('every preset has its own text', () => {
    for (const { text } of PRESETS.filter((preset) => preset.text !== 'all')) {
      expect(durationText(parseDuration(text) ?? 0)).toBe(text);
    }
  });
});

describe('ranges in a link', () => {
  const ranges: TimeRange[] = [
    { kind: 'span', span_ms: 900_000 },
    { kind: 'all' },
    { kind: 'between', start_ms: NOW - 1, end_ms: NOW },
  ];
  test.each(ranges)('%o comes back', (range) => {
    expect(rangeFromParams(new URLSearchParams(rangeToParams(range)))).toEqual(range);
  });

  test('nonsense becomes the default', () => {
    for (const text of ['', 'range=x', 'from=a&to=b', 'from=2026-01-02&to=2026-01-01']) {
      expect(rangeFromParams(new URLSearchParams(text))).toEqual({
        kind: 'span',
        span_ms: 900_000,
      });
    }
  });

  test('bounds', () => {
    expect(boundsOf({ kind: 'all' }, NOW)).toBeNull();
    expect(boundsOf({ kind: 'span', span_ms: 1000 }, NOW)).toEqual({
      start_ms: NOW - 1000,
      end_ms: NOW,
    });
  });
});

test('bars are of a round width and never too many', () => {
  for (const span of [10, 1000, 900_000, 86_400_000, 7 * 86_400_000, 4e11, 4e12]) {
    expect(span / stepFor(span, 150)).toBeLessThanOrEqual(150);
  }
  expect(stepFor(900_000, 150)).toBe(10_000);
});

test('times keep the digits that a date has not', () => {
  const time = '2026-01-31T14:05:09.123456789Z';
  expect(rowTime(time, 'utc', false)).toBe('14:05:09.123');
  expect(rowTime(time, 'utc', true)).toBe('Jan 31 14:05:09.123');
  expect(fullTime(time, 'utc')).toBe('2026-01-31 14:05:09.123456789 UTC');
  expect(fullTime('1970-01-01T00:00:00Z', 'utc')).toBe('1970-01-01 00:00:00.000000000 UTC');
  expect(rowTime('no time', 'utc', false)).toBe('no time');
});

test('short texts', () => {
  expect(shortCount(999)).toBe('999');
  expect(shortCount(1000)).toBe('1K');
  expect(shortCount(1234)).toBe('1.2K');
  expect(shortCount(59_576)).toBe('59K');
  expect(rangeText({ kind: 'span', span_ms: 900_000 }, 'utc')).toBe('Last 15 minutes');
  expect(
    rangeText({ kind: 'between', start_ms: at(2026, 0, 31, 1), end_ms: at(2026, 0, 31, 2) }, 'utc'),
  ).toBe('Jan 31 01:00:00 – 02:00:00');
});
