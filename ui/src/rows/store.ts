// The rows that the page holds, as the lines they came in.
//
// A line of text costs a fraction of a parsed record, so lines are kept and only rows near the
// screen are parsed. Every row has a number that stays its own while older rows are cut in front.

import { parseRow, type Row } from './row';

/** The most rows kept for one search; more is a reason to narrow the search. */
export const ROWS_MAX = 500_000;
/** The most text kept for one search. */
export const CHARS_MAX = 400_000_000;
/** The most rows kept while following live. */
export const LIVE_ROWS_MAX = 10_000;
/** Rows that stay parsed. */
const PARSED_MAX = 2_000;

export class RowStore {
  private kept: string[] = [];
  private parsed = new Map<number, Row>();
  private chars = 0;
  /** How many rows were cut in front: the number of the first row kept. */
  first = 0;

  get length(): number {
    return this.kept.length;
  }

  get full(): boolean {
    return this.kept.length >= ROWS_MAX || this.chars >= CHARS_MAX;
  }

  get lines(): readonly string[] {
    return this.kept;
  }

  clear(): void {
    this.kept = [];
    this.parsed.clear();
    this.chars = 0;
    this.first = 0;
  }

  append(lines: readonly string[]): void {
    for (const line of lines) {
      this.kept.push(line);
      this.chars += line.length;
    }
  }

  /** Cuts the rows in front so that `rows_max` are left, and gives back how many were cut. */
  keepLast(rows_max: number): number {
    const cut = Math.max(0, this.kept.length - rows_max);
    if (cut === 0) return 0;
    for (const line of this.kept.splice(0, cut)) this.chars -= line.length;
    this.first += cut;
    return cut;
  }

  /** The row at an index, 0 being the first one kept. */
  at(index: number): Row | undefined {
    const line = this.kept[index];
    if (line === undefined) return undefined;
    const number = this.first + index;
    let row = this.parsed.get(number);
    if (row === undefined) {
      row = parseRow(line);
      const [oldest] = this.parsed.keys();
      if (this.parsed.size >= PARSED_MAX && oldest !== undefined) this.parsed.delete(oldest);
      this.parsed.set(number, row);
    }
    return row;
  }
}
