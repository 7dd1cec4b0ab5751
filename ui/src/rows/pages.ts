// Reading older records page after page without losing or doubling one.
//
// Records have no number of their own and many can share a nanosecond, so a page cannot just start
// "before the last one seen". The next page is asked to end one nanosecond *after* the oldest time
// seen; the records of that very nanosecond which are already shown are then taken out again, each
// as often as it is shown. This holds whatever the order among equals.

import { parseRow } from './row';

const NS_PER_SECOND = 1_000_000_000n;

/** RFC 3339 → nanoseconds since 1970; null when it is no time. */
export function timeNs(text: string): bigint | null {
  const match = /^(.{19})(?:\.(\d{1,9}))?\d*(Z|[-+]\d{2}:\d{2})$/.exec(text);
  if (match === null) return null;
  const seconds_ms = Date.parse(`${match[1]}${match[3]}`);
  if (Number.isNaN(seconds_ms)) return null;
  return BigInt(seconds_ms / 1000) * NS_PER_SECOND + BigInt((match[2] ?? '').padEnd(9, '0'));
}

/** Nanoseconds since 1970 → RFC 3339 with nine digits. */
export function timeFromNs(ns: bigint): string {
  const rest = ((ns % NS_PER_SECOND) + NS_PER_SECOND) % NS_PER_SECOND;
  const seconds = Number((ns - rest) / NS_PER_SECOND);
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}.${String(rest).padStart(9, '0')}Z`;
}

/** The same record has the same key, whatever the order of its fields. */
export function recordKey(line: string): string {
  const { fields } = parseRow(line);
  return JSON.stringify([...fields].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
}

/** Takes out, from lines that come, those that are already there: each as often as it is. */
export class Already {
  private readonly counts = new Map<string, number>();

  constructor(lines: Iterable<string>) {
    for (const line of lines) {
      const key = recordKey(line);
      this.counts.set(key, (this.counts.get(key) ?? 0) + 1);
    }
  }

  get size(): number {
    let total = 0;
    for (const count of this.counts.values()) total += count;
    return total;
  }

  /** True when this line was there before; it is then used up. */
  take(line: string): boolean {
    if (this.counts.size === 0) return false;
    const key = recordKey(line);
    const count = this.counts.get(key);
    if (count === undefined) return false;
    if (count === 1) this.counts.delete(key);
    else this.counts.set(key, count - 1);
    return true;
  }
}

export type NextPage = {
  /** Exclusive end to ask for. */
  end: string;
  /** Records of the border nanosecond that are already shown. */
  already: Already;
};

/** What to ask for after these lines (newest first); null when the last one has no time. */
export function nextPage(lines: readonly string[]): NextPage | null {
  const last = lines.at(-1);
  if (last === undefined) return null;
  const { time } = parseRow(last);
  const ns = timeNs(time);
  if (ns === null) return null;
  const ties: string[] = [];
  for (let at = lines.length - 1; at >= 0; at -= 1) {
    const line = lines[at] ?? '';
    if (parseRow(line).time !== time) break;
    ties.push(line);
  }
  return { end: timeFromNs(ns + 1n), already: new Already(ties) };
}
