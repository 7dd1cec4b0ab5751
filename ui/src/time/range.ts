// Time ranges: what the user asks for, what the server is asked, what stands in a link.
//
// All times here are milliseconds since 1970 UTC; a range's end is exclusive.

export type Zone = 'local' | 'utc';

/** `span`: the last so-many milliseconds; `between`: fixed; `all`: everything stored. */
export type TimeRange =
  | { kind: 'span'; span_ms: number }
  | { kind: 'between'; start_ms: number; end_ms: number }
  | { kind: 'all' };

/** A range at the moment of asking. `all` has no bounds. */
export type Bounds = { start_ms: number; end_ms: number } | null;

const UNIT_MS: Record<string, number> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 7 * 86_400_000,
};

export const PRESETS: readonly { text: string; label: string }[] = [
  { text: '5m', label: 'Last 5 minutes' },
  { text: '15m', label: 'Last 15 minutes' },
  { text: '1h', label: 'Last hour' },
  { text: '6h', label: 'Last 6 hours' },
  { text: '24h', label: 'Last 24 hours' },
  { text: '7d', label: 'Last 7 days' },
  { text: 'all', label: 'All time' },
];

export const DEFAULT_RANGE: TimeRange = { kind: 'span', span_ms: 15 * 60_000 };

/** `1h30m` → milliseconds; null when it is no duration. */
export function parseDuration(text: string): number | null {
  const trimmed = text.trim().toLowerCase();
  if (!/^(\d+(\.\d+)?(ms|[smhdw]))+$/.test(trimmed)) return null;
  let total = 0;
  for (const [, amount, unit] of trimmed.matchAll(/(\d+(?:\.\d+)?)(ms|[smhdw])/g)) {
    total += Number(amount) * (UNIT_MS[unit ?? ''] ?? 0);
  }
  return Number.isFinite(total) && total > 0 ? Math.round(total) : null;
}

/** The text of a duration in its largest whole unit: 5400000 → `90m`. */
export function durationText(span_ms: number): string {
  for (const unit of ['d', 'h', 'm', 's']) {
    const unit_ms = UNIT_MS[unit] ?? 1;
    // One day reads as 24h, the name that people know that range by.
    if (span_ms % unit_ms === 0 && !(unit === 'd' && span_ms === unit_ms)) {
      return `${span_ms / unit_ms}${unit}`;
    }
  }
  return `${span_ms}ms`;
}

function clockTime(text: string, now_ms: number, zone: Zone): number | null {
  const pattern =
    /^(?:(\d{4})-(\d{1,2})-(\d{1,2}))?(?:[ T]*(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?$/;
  const match = pattern.exec(text);
  if (match === null || text === '') return null;
  const [, year, month, day, hour, minute, second, fraction] = match;
  const now = new Date(now_ms);
  const utc = zone === 'utc';
  const y = year === undefined ? (utc ? now.getUTCFullYear() : now.getFullYear()) : Number(year);
  const mo = month === undefined ? (utc ? now.getUTCMonth() : now.getMonth()) : Number(month) - 1;
  const d = day === undefined ? (utc ? now.getUTCDate() : now.getDate()) : Number(day);
  const [h, mi, s] = [Number(hour ?? 0), Number(minute ?? 0), Number(second ?? 0)];
  const ms = Math.floor(Number(`0.${fraction ?? 0}`) * 1000);
  if (mo < 0 || mo > 11 || d < 1 || d > 31 || h > 23 || mi > 59 || s > 60) return null;
  const at = utc ? Date.UTC(y, mo, d, h, mi, s, ms) : new Date(y, mo, d, h, mi, s, ms).getTime();
  const back = new Date(at);
  // 31 February would silently become March.
  return (utc ? back.getUTCDate() : back.getDate()) === d ? at : null;
}

/**
 * A moment as people type it: `now`, `now-15m`, `-2h`, `14:05`, `2026-01-31`, `2026-01-31 14:05:09`,
 * RFC 3339, or Unix seconds, milliseconds, microseconds or nanoseconds. Null when it is none of these.
 */
export function parseMoment(text: string, now_ms: number, zone: Zone): number | null {
  const trimmed = text.trim();
  if (/^now$/i.test(trimmed)) return now_ms;
  const relative = /^(?:now)?\s*([-+])\s*(\S+)$/i.exec(trimmed) ?? /^()(\S+)\s+ago$/i.exec(trimmed);
  if (relative !== null) {
    const span_ms = parseDuration(relative[2] ?? '');
    if (span_ms === null) return null;
    return relative[1] === '+' ? now_ms + span_ms : now_ms - span_ms;
  }
  if (/^\d{9,19}$/.test(trimmed)) {
    // By magnitude, as the server reads time stamps.
    const digits = trimmed.length;
    const number = BigInt(trimmed);
    if (digits <= 11) return Number(number * 1000n);
    if (digits <= 14) return Number(number);
    return Number(number / (digits <= 17 ? 1000n : 1_000_000n));
  }
  if (/(z|[-+]\d{2}:?\d{2})$/i.test(trimmed) && /^\d{4}-\d{2}-\d{2}[T ]/i.test(trimmed)) {
    const at = Date.parse(trimmed.replace(' ', 'T').replace(/(\.\d{3})\d+/, '$1'));
    return Number.isNaN(at) ? null : at;
  }
  return clockTime(trimmed, now_ms, zone);
}

/** The bounds of a range, asked for at `now_ms`. */
export function boundsOf(range: TimeRange, now_ms: number): Bounds {
  if (range.kind === 'all') return null;
  if (range.kind === 'between') return { start_ms: range.start_ms, end_ms: range.end_ms };
  return { start_ms: now_ms - range.span_ms, end_ms: now_ms };
}

const DAY_MS = 86_400_000;

const STEPS_MS = [
  1,
  2,
  5,
  10,
  20,
  50,
  100,
  200,
  500,
  ...[1, 2, 5, 10, 15, 30].map((n) => n * 1000),
  ...[1, 2, 5, 10, 15, 30].map((n) => n * 60_000),
  ...[1, 2, 3, 6, 12].map((n) => n * 3_600_000),
  ...[1, 2, 7, 14, 30, 90, 365].map((n) => n * 86_400_000),
];

/** The bar width that gives at most `bars_max` bars over a span. */
export function stepFor(span_ms: number, bars_max: number): number {
  const least = span_ms / Math.max(1, bars_max);
  return STEPS_MS.find((step) => step >= least) ?? Math.ceil(least / DAY_MS) * DAY_MS;
}

/** The part of a link that stands for a range. */
export function rangeToParams(range: TimeRange): Record<string, string> {
  if (range.kind === 'all') return { range: 'all' };
  if (range.kind === 'span') return { range: durationText(range.span_ms) };
  const iso = (ms: number) => new Date(ms).toISOString();
  return { from: iso(range.start_ms), to: iso(range.end_ms) };
}

/** Reads a range from a link; what it cannot read becomes the default. */
export function rangeFromParams(params: URLSearchParams): TimeRange {
  const [from, to] = [params.get('from'), params.get('to')];
  if (from !== null && to !== null) {
    const start_ms = parseMoment(from, Date.now(), 'utc');
    const end_ms = parseMoment(to, Date.now(), 'utc');
    if (start_ms !== null && end_ms !== null && start_ms < end_ms) {
      return { kind: 'between', start_ms, end_ms };
    }
  }
  const text = params.get('range') ?? '';
  if (text === 'all') return { kind: 'all' };
  const span_ms = parseDuration(text);
  return span_ms === null ? DEFAULT_RANGE : { kind: 'span', span_ms };
}

export function sameRange(a: TimeRange, b: TimeRange): boolean {
  return JSON.stringify(rangeToParams(a)) === JSON.stringify(rangeToParams(b));
}
