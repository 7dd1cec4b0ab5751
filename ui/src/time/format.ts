// Writes times for people. `_time` comes as RFC 3339 UTC text with up to nine digits; the digits
// beyond milliseconds are taken from the text, as a JavaScript date has none.

import { durationText, PRESETS, type TimeRange, type Zone } from './range';

const two = (n: number) => String(n).padStart(2, '0');
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

type Clock = { year: number; month: number; day: number; clock: string };

function clockOf(at_ms: number, zone: Zone): Clock {
  const date = new Date(at_ms);
  const utc = zone === 'utc';
  const [h, m, s] = utc
    ? [date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()]
    : [date.getHours(), date.getMinutes(), date.getSeconds()];
  return {
    year: utc ? date.getUTCFullYear() : date.getFullYear(),
    month: utc ? date.getUTCMonth() : date.getMonth(),
    day: utc ? date.getUTCDate() : date.getDate(),
    clock: `${two(h)}:${two(m)}:${two(s)}`,
  };
}

/** Milliseconds since 1970 of an RFC 3339 text; NaN when it is none. */
export function timeMs(text: string): number {
  return Date.parse(text.replace(/(\.\d{3})\d+/, '$1'));
}

function fraction(text: string, digits: number): string {
  const found = /\.(\d{1,9})/.exec(text)?.[1] ?? '';
  return found.padEnd(digits, '0').slice(0, digits);
}

/** A row's time: `14:05:09.123`, or `Jan 31 14:05:09.123` where the day is not plain. */
export function rowTime(text: string, zone: Zone, with_day: boolean): string {
  const at_ms = timeMs(text);
  if (Number.isNaN(at_ms)) return text.slice(0, 30);
  const { month, day, clock } = clockOf(at_ms, zone);
  const time = `${clock}.${fraction(text, 3)}`;
  return with_day ? `${MONTHS[month]} ${two(day)} ${time}` : time;
}

/** The whole time with all nine digits and its zone. */
export function fullTime(text: string, zone: Zone): string {
  const at_ms = timeMs(text);
  if (Number.isNaN(at_ms)) return text;
  const { year, month, day, clock } = clockOf(at_ms, zone);
  const zone_text = zone === 'utc' ? 'UTC' : offsetText(at_ms);
  return `${year}-${two(month + 1)}-${two(day)} ${clock}.${fraction(text, 9)} ${zone_text}`;
}

function offsetText(at_ms: number): string {
  const minutes = -new Date(at_ms).getTimezoneOffset();
  const sign = minutes < 0 ? '-' : '+';
  const absolute = Math.abs(minutes);
  return `${sign}${two(Math.floor(absolute / 60))}:${two(absolute % 60)}`;
}

/** A moment in a form that the range picker reads back: `2026-01-31 14:05:09`. */
export function momentText(at_ms: number, zone: Zone): string {
  const { year, month, day, clock } = clockOf(at_ms, zone);
  const ms = ((at_ms % 1000) + 1000) % 1000;
  const rest = ms === 0 ? '' : `.${String(ms).padStart(3, '0')}`;
  return `${year}-${two(month + 1)}-${two(day)} ${clock}${rest}`;
}

/** The words on the range button. */
export function rangeText(range: TimeRange, zone: Zone): string {
  if (range.kind === 'all') return 'All time';
  if (range.kind === 'span') {
    const text = durationText(range.span_ms);
    return PRESETS.find((preset) => preset.text === text)?.label ?? `Last ${text}`;
  }
  const start = clockOf(range.start_ms, zone);
  const end = clockOf(range.end_ms, zone);
  const day = (at: Clock) => `${MONTHS[at.month]} ${at.day}`;
  const fine = range.end_ms - range.start_ms < 10_000;
  const clock = (at: Clock, ms: number) =>
    fine ? `${at.clock}.${String(((ms % 1000) + 1000) % 1000).padStart(3, '0')}` : at.clock;
  const same_day = start.day === end.day && start.month === end.month && start.year === end.year;
  const end_text = `${same_day ? '' : `${day(end)} `}${clock(end, range.end_ms)}`;
  return `${day(start)} ${clock(start, range.start_ms)} – ${end_text}`;
}

/** An axis tick or a tooltip: as much of the time as the step can tell apart. */
export function tickText(at_ms: number, step_ms: number, zone: Zone): string {
  const { month, day, clock } = clockOf(at_ms, zone);
  const date = `${MONTHS[month]} ${day}`;
  if (step_ms >= 86_400_000) return date;
  const short = step_ms < 60_000 ? clock : clock.slice(0, 5);
  const time =
    step_ms < 1000 ? `${clock}.${String(((at_ms % 1000) + 1000) % 1000).padStart(3, '0')}` : short;
  return clock === '00:00:00' ? date : time;
}

/** How long something took: `0.8 s`, `34 ms`, `2 min 5 s`. */
export function elapsedText(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.floor((ms % 60_000) / 1000)} s`;
}

/** How long ago: `3 days ago`. */
export function agoText(at_ms: number, now_ms: number): string {
  const span = Math.abs(now_ms - at_ms);
  const units: [number, string][] = [
    [365 * 86_400_000, 'year'],
    [86_400_000, 'day'],
    [3_600_000, 'hour'],
    [60_000, 'minute'],
    [1000, 'second'],
  ];
  for (const [unit_ms, name] of units) {
    const count = Math.floor(span / unit_ms);
    if (count >= 1) {
      return `${count} ${name}${count === 1 ? '' : 's'} ${at_ms <= now_ms ? 'ago' : 'from now'}`;
    }
  }
  return 'just now';
}

const WHOLE = new Intl.NumberFormat('en-US');

/** `1,234,567` */
export function countText(count: number): string {
  return WHOLE.format(count);
}

/** `1.2 M`: for where space is dear. */
export function shortCount(count: number): string {
  const units: [number, string][] = [
    [1e12, 'T'],
    [1e9, 'B'],
    [1e6, 'M'],
    [1e3, 'K'],
  ];
  for (const [size, name] of units) {
    if (count >= size) {
      const scaled = count / size;
      return `${scaled < 10 ? scaled.toFixed(1).replace(/\.0$/, '') : Math.floor(scaled)}${name}`;
    }
  }
  return String(count);
}

/** A part of a whole, 0 to 1, in percent: `12.5%`; what is there is never nothing. */
export function shareText(share: number): string {
  if (share > 0 && share < 0.001) return '<0.1%';
  if (share < 1 && share > 0.999) return '>99.9%';
  return `${(share * 100).toFixed(1).replace(/\.0$/, '')}%`;
}

/** `1.2 GB`, by powers of ten as disks are sold. */
export function bytesText(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let scaled = bytes;
  let unit = 0;
  while (scaled >= 1000 && unit < units.length - 1) {
    scaled /= 1000;
    unit += 1;
  }
  return `${unit === 0 || scaled >= 100 ? Math.round(scaled) : scaled.toFixed(1)} ${units[unit]}`;
}
