// What the messages that match have in common.
//
// Invariants: a newer question aborts the one before, whose late answer changes nothing; what is
// answered already for the search on the screen is not asked again.

import * as api from '../api/client';
import { matching } from '../query/logsql';
import type { TrendScale } from '../rows/trend';
import { timeMs } from '../time/format';
import type { Bounds } from '../time/range';
import { boundsParams, failureOf, type Failure, type Phase } from './search.svelte';

/** The commonest ones are shown; a screen of the rarest would have no end. */
export const PATTERNS_MAX = 200;
/** Bars of a trend, which is narrow. */
export const TREND_PARTS = 30;

export class Patterns {
  found = $state.raw<api.PatternHits[]>([]);
  scale = $state.raw<TrendScale>({ start_ms: 0, step_ms: 1 });
  phase = $state<Phase>('idle');
  failure = $state.raw<Failure | null>(null);
  elapsed_ms = $state(0);
  /** True while the patterns on the screen are still those of the search before. */
  stale = $state(false);

  private abort = new AbortController();

  /** Counts the patterns of a new search. */
  async load(query: string, bounds: Bounds): Promise<void> {
    this.drop();
    const { signal } = this.abort;
    const started = performance.now();
    const clock = setInterval(() => (this.elapsed_ms = performance.now() - started), 100);
    this.phase = 'running';
    this.elapsed_ms = 0;
    try {
      const answer = await api.patterns(
        {
          query: matching(query),
          ...boundsParams(bounds),
          limit: PATTERNS_MAX,
          buckets: TREND_PARTS,
        },
        signal,
      );
      if (signal.aborted) return;
      const { start, step_ns } = answer.trend;
      this.scale = { start_ms: timeMs(start), step_ms: step_ns / 1e6 };
      this.found = answer.patterns;
      this.stale = false;
      this.phase = 'done';
    } catch (error) {
      if (signal.aborted) return;
      this.failure = failureOf(error);
      this.phase = 'failed';
    } finally {
      clearInterval(clock);
      if (!signal.aborted) this.elapsed_ms = performance.now() - started;
    }
  }

  /** Forgets that anything was asked: the search is another one, or nobody waits any more. */
  drop(): void {
    this.abort.abort();
    this.abort = new AbortController();
    this.phase = 'idle';
    this.failure = null;
    this.stale = true;
  }

  /** Stops what runs. */
  cancel(): void {
    if (this.phase !== 'running') return;
    this.abort.abort();
    this.phase = 'cancelled';
  }
}
