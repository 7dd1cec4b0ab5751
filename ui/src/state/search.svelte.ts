// One search and its answer: rows page by page, and the histogram.
//
// Invariants: a newer run aborts the one before, whose late answers change nothing; the bounds of a
// relative range are fixed when the search starts, so that all its pages and bars tell of one time.

import * as api from '../api/client';
import { isPageable, isTable, matching } from '../query/logsql';
import { nextPage } from '../rows/pages';
import { histogram, type Histogram } from '../rows/histogram';
import { parseRow } from '../rows/row';
import { RowStore } from '../rows/store';
import { timeMs } from '../time/format';
import { boundsOf, stepFor, type Bounds, type TimeRange } from '../time/range';

/** Rows of the first page; later ones grow, so that a long scroll needs few requests. */
export const PAGE_ROWS = 1000;
const PAGE_ROWS_MAX = 8000;
/** Rows of a table of results (`| stats …`). */
export const TABLE_ROWS_MAX = 10_000;
/** Spellings of levels that are counted apart; a field of that name can hold anything. */
const LEVELS_MAX = 30;
const BARS_WANTED = 150;
const DAY_MS = 86_400_000;

export type Phase = 'idle' | 'running' | 'done' | 'failed' | 'cancelled';

export type Failure = { message: string; column: number | null; status: number };

export function failureOf(error: unknown): Failure {
  if (error instanceof api.ApiError) {
    return { message: error.message, column: error.column, status: error.status };
  }
  return {
    message: error instanceof Error ? error.message : String(error),
    column: null,
    status: 0,
  };
}

/** Bounds as the server reads them. */
export function boundsParams(bounds: Bounds): api.Params {
  if (bounds === null) return {};
  const iso = (ms: number) => new Date(ms).toISOString();
  return { start: iso(bounds.start_ms), end: iso(bounds.end_ms) };
}

export class Search {
  readonly rows = new RowStore();
  query = $state('*');
  bounds = $state.raw<Bounds>(null);
  phase = $state<Phase>('idle');
  failure = $state.raw<Failure | null>(null);
  /** How many rows there are: what the list draws by. Grows with every flush. */
  count = $state(0);
  elapsed_ms = $state(0);
  /** True when older rows can be loaded. */
  more = $state(false);
  loading_more = $state(false);
  more_failure = $state.raw<Failure | null>(null);
  table = $state(false);
  /** How many rows the answer was limited to, when it has that many: there may be more. */
  limited_to = $state<number | null>(null);
  /** True while the rows on the screen are still those of the search before. */
  stale = $state(false);
  histogram = $state.raw<Histogram | null>(null);
  histogram_failure = $state.raw<Failure | null>(null);
  /** When nothing was found: the time of the newest record that matches at any time. */
  newest_elsewhere = $state.raw<{ time_ms: number } | 'none' | null>(null);

  private abort = new AbortController();
  private page_rows = PAGE_ROWS;
  /** Counts searches: the list starts at its top again when this changes. */
  generation = $state(0);

  /** Starts a search; what was shown before is gone when the first answer comes. */
  async run(query: string, range: TimeRange): Promise<void> {
    const signal = this.begin(query, boundsOf(range, Date.now()));
    void this.loadHistogram(signal);
    const limit = isTable(query) ? TABLE_ROWS_MAX : PAGE_ROWS;
    const started = performance.now();
    const clock = setInterval(() => (this.elapsed_ms = performance.now() - started), 100);
    const fresh = this.freshRows(signal);
    try {
      const params = { query, limit, ...boundsParams(this.bounds) };
      await api.query(params, signal, (lines) => fresh.take(lines));
      if (signal.aborted) return;
      fresh.flush();
      this.more = !this.table && isPageable(query) && this.rows.length >= limit;
      this.limited_to = this.rows.length >= limit ? limit : null;
      this.phase = 'done';
      if (this.rows.length === 0 && range.kind !== 'all') void this.findElsewhere(signal);
    } catch (error) {
      if (signal.aborted) return;
      // A query that failed before its first row takes nothing away: what was there stays to read.
      if (!this.stale) fresh.flush();
      this.failure = failureOf(error);
      this.phase = 'failed';
    } finally {
      clearInterval(clock);
      if (!signal.aborted) this.elapsed_ms = performance.now() - started;
    }
  }

  /** Stops what runs; the rows that came stay. */
  cancel(): void {
    if (this.phase === 'running') this.phase = 'cancelled';
    this.loading_more = false;
    this.abort.abort();
    if (!this.stale) this.count = this.rows.length;
  }

  /** Loads the next older page. */
  async loadMore(): Promise<void> {
    if (!this.more || this.loading_more || this.phase === 'running') return;
    const next = nextPage(this.rows.lines);
    if (next === null) {
      this.more = false;
      return;
    }
    this.page_rows = Math.min(PAGE_ROWS_MAX, this.page_rows * 2);
    const limit = this.page_rows + next.already.size;
    const signal = this.abort.signal;
    this.loading_more = true;
    this.more_failure = null;
    let received = 0;
    try {
      const params = { ...boundsParams(this.bounds), query: this.query, limit, end: next.end };
      await api.query(params, signal, (lines) => {
        if (signal.aborted) return;
        received += lines.length;
        this.rows.append(lines.filter((line) => !next.already.take(line)));
        this.count = this.rows.length;
      });
      if (signal.aborted) return;
      this.more = received >= limit && !this.rows.full;
    } catch (error) {
      if (!signal.aborted) this.more_failure = failureOf(error);
    } finally {
      if (!signal.aborted) this.loading_more = false;
    }
  }

  /** The histogram alone, for the time that is being followed live. */
  async follow(query: string, bounds: Bounds): Promise<void> {
    this.query = query;
    this.bounds = bounds;
    await this.loadHistogram(this.abort.signal);
  }

  /** Forgets the rows before live following starts. */
  reset(query: string): void {
    this.begin(query, null);
    this.rows.clear();
    this.count = 0;
    this.stale = false;
    this.phase = 'idle';
    this.table = false;
    this.generation += 1;
    this.histogram = null;
  }

  private begin(query: string, bounds: Bounds): AbortSignal {
    this.abort.abort();
    this.abort = new AbortController();
    this.query = query;
    this.bounds = bounds;
    this.phase = 'running';
    this.failure = null;
    this.more = false;
    this.limited_to = null;
    this.more_failure = null;
    this.loading_more = false;
    this.elapsed_ms = 0;
    this.stale = true;
    this.newest_elsewhere = null;
    this.page_rows = PAGE_ROWS;
    return this.abort.signal;
  }

  /** Takes lines as they stream in; the old rows leave when the first new one is there. */
  private freshRows(signal: AbortSignal) {
    let frame = 0;
    const show = () => {
      frame = 0;
      if (!signal.aborted) this.count = this.rows.length;
    };
    const restart = () => {
      if (!this.stale) return;
      this.stale = false;
      this.generation += 1;
      this.table = isTable(this.query);
      this.rows.clear();
      this.count = 0;
    };
    return {
      take: (lines: string[]) => {
        if (signal.aborted) return;
        if (this.stale) {
          restart();
          // The first row decides what the answer is: without a time it is no list of records.
          this.table ||= parseRow(lines[0] ?? '').time === '';
        }
        this.rows.append(lines);
        if (frame === 0) frame = requestAnimationFrame(show);
      },
      flush: () => {
        restart();
        cancelAnimationFrame(frame);
        this.count = this.rows.length;
      },
    };
  }

  private async loadHistogram(signal: AbortSignal): Promise<void> {
    const query = matching(this.query);
    this.histogram_failure = null;
    try {
      const bounds = this.bounds ?? (await this.boundsOfAll(query, signal));
      if (signal.aborted) return;
      if (bounds === null) {
        this.histogram = null;
        return;
      }
      const step_ms = stepFor(bounds.end_ms - bounds.start_ms, BARS_WANTED);
      const groups = await api.hits(
        {
          query,
          ...boundsParams(bounds),
          step: `${step_ms}ms`,
          field: 'level',
          fields_limit: LEVELS_MAX,
        },
        signal,
      );
      if (signal.aborted) return;
      this.histogram = histogram(groups, bounds.start_ms, bounds.end_ms, step_ms);
    } catch (error) {
      if (signal.aborted) return;
      // A query that cannot be read has no histogram; the one before it stays, like its rows.
      if (failureOf(error).status !== 400) this.histogram = null;
      this.histogram_failure = failureOf(error);
    }
  }

  /** From the first to the last day on which something matches; null when nothing does. */
  private async boundsOfAll(query: string, signal: AbortSignal): Promise<Bounds> {
    const groups = await api.hits({ query, step: '1d' }, signal);
    let start_ms = Infinity;
    let end_ms = -Infinity;
    for (const time of groups.flatMap((group) => group.timestamps)) {
      start_ms = Math.min(start_ms, timeMs(time));
      end_ms = Math.max(end_ms, timeMs(time) + DAY_MS);
    }
    return start_ms < end_ms ? { start_ms, end_ms } : null;
  }

  private async findElsewhere(signal: AbortSignal): Promise<void> {
    const query = matching(this.query);
    let time = '';
    try {
      await api.query({ query, limit: 1 }, signal, (lines) => {
        time ||= parseRow(lines[0] ?? '').time;
      });
    } catch {
      // Only a hint: the search itself has already told what it found.
      return;
    }
    if (signal.aborted) return;
    const time_ms = timeMs(time);
    this.newest_elsewhere = Number.isNaN(time_ms) ? 'none' : { time_ms };
  }
}
