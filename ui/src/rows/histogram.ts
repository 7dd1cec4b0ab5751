// From the server's hits to stacked bars.

import { LEVELS, levelOf, type Level } from './row';

/** One group of `/select/logsql/hits`. */
export type HitsGroup = {
  fields: Record<string, string>;
  timestamps: string[];
  values: number[];
  total: number;
};

export type Histogram = {
  step_ms: number;
  /** The start of every bar, gaps included, so that the axis is true. */
  starts_ms: number[];
  /** Counts per level, as long as `starts_ms`; only levels that occur, in the order of `LEVELS`. */
  levels: { level: Level; counts: number[]; total: number; spellings: string[] }[];
  total: number;
};

/** The most bars that are drawn. More would be narrower than a pixel. */
export const BARS_MAX = 2000;

/** Puts the groups of all spellings of a level together and fills the gaps. */
export function histogram(
  groups: readonly HitsGroup[],
  start_ms: number,
  end_ms: number,
  step_ms: number,
): Histogram {
  const first = Math.floor(start_ms / step_ms) * step_ms;
  const bars = Math.max(1, Math.min(BARS_MAX, Math.ceil((end_ms - first) / step_ms)));
  const starts_ms = Array.from({ length: bars }, (_, i) => first + i * step_ms);
  const levels = new Map<Level, Histogram['levels'][number]>();
  for (const group of groups) {
    const spelling = group.fields.level ?? '';
    const level = levelOf(spelling);
    let entry = levels.get(level);
    if (entry === undefined) {
      entry = { level, counts: new Array<number>(bars).fill(0), total: 0, spellings: [] };
      levels.set(level, entry);
    }
    if (!entry.spellings.includes(spelling)) entry.spellings.push(spelling);
    group.timestamps.forEach((time, i) => {
      const bar = Math.floor((Date.parse(time.replace(/(\.\d{3})\d+/, '$1')) - first) / step_ms);
      const count = group.values[i] ?? 0;
      if (bar >= 0 && bar < bars) {
        entry.counts[bar] = (entry.counts[bar] ?? 0) + count;
        entry.total += count;
      }
    });
  }
  const ordered = LEVELS.flatMap((level) => {
    const entry = levels.get(level);
    return entry === undefined || entry.total === 0 ? [] : [entry];
  });
  return { step_ms, starts_ms, levels: ordered, total: ordered.reduce((n, l) => n + l.total, 0) };
}
