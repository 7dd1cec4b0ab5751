// Following records as they are committed.
//
// Invariants: at most `LIVE_ROWS_MAX` rows are held on screen and as many while paused; what is cut
// is counted and told; when the connection breaks it is opened again with a growing wait, and the
// gap is told, never hidden.

import * as api from '../api/client';
import { LIVE_ROWS_MAX, RowStore } from '../rows/store';
import { failureOf, type Failure } from './search.svelte';

/** Earlier records to begin with, so that a quiet stream does not look broken. */
const START_OFFSET = '5m';
const FLUSH_MS = 100;
const RATE_WINDOW_MS = 5000;
const WAIT_MS_MAX = 15_000;
/** The field in which the server says how many commits a slow reader missed. */
const MISSED = '"lodge.missed_commits":"';

export type LiveState = 'off' | 'connecting' | 'open' | 'waiting' | 'failed';

export class Live {
  readonly rows = new RowStore();
  state = $state<LiveState>('off');
  failure = $state.raw<Failure | null>(null);
  count = $state(0);
  /** False while the reader looks at older rows: new ones wait in `pending`. */
  following = $state(true);
  pending = $state(0);
  /** Rows that left this page because it holds only so many. */
  cut = $state(0);
  /** Commits that the server skipped because this page was too slow. */
  missed = $state(0);
  /** How often the connection broke since the start. */
  breaks = $state(0);
  rate = $state(0);
  /** Grows with every flush: rows may have moved even where their count is the same. */
  flushes = $state(0);

  private abort = new AbortController();
  private waiting: string[] = [];
  private arrived: { at_ms: number; rows: number }[] = [];
  private timer: ReturnType<typeof setInterval> | undefined;

  start(query: string): void {
    this.stop();
    this.abort = new AbortController();
    this.rows.clear();
    this.waiting = [];
    this.arrived = [];
    this.count = this.cut = this.missed = this.breaks = this.pending = this.rate = 0;
    this.following = true;
    this.failure = null;
    this.timer = setInterval(() => this.flush(), FLUSH_MS);
    void this.keepOpen(query, this.abort.signal);
  }

  stop(): void {
    this.abort.abort();
    clearInterval(this.timer);
    this.state = 'off';
  }

  pause(): void {
    this.following = false;
  }

  resume(): void {
    this.following = true;
    this.flush();
  }

  private async keepOpen(query: string, signal: AbortSignal): Promise<void> {
    let wait_ms = 500;
    for (let attempt = 0; !signal.aborted; attempt += 1) {
      this.state = 'connecting';
      try {
        const start_offset = attempt === 0 ? START_OFFSET : undefined;
        await api.tail(
          { query, start_offset },
          signal,
          () => this.opened(),
          (lines) => {
            if (!signal.aborted) this.arrive(lines);
            wait_ms = 500;
          },
        );
      } catch (error) {
        if (signal.aborted) return;
        this.failure = failureOf(error);
        if (this.failure.status >= 400 && this.failure.status < 500) {
          // The query itself is refused; asking again would not help.
          this.state = 'failed';
          return;
        }
      }
      if (signal.aborted) return;
      this.breaks += 1;
      this.state = 'waiting';
      await new Promise((resolve) => setTimeout(resolve, wait_ms * (0.75 + Math.random() / 2)));
      wait_ms = Math.min(WAIT_MS_MAX, wait_ms * 2);
    }
  }

  private opened(): void {
    this.state = 'open';
    this.failure = null;
  }

  private arrive(lines: string[]): void {
    this.arrived.push({ at_ms: performance.now(), rows: lines.length });
    for (const line of lines) {
      const at = line.indexOf(MISSED);
      if (at >= 0) this.missed += Number.parseInt(line.slice(at + MISSED.length), 10) || 0;
    }
    // A loop, for `push(...lines)` overflows the stack with a hundred thousand arguments.
    for (const line of lines) this.waiting.push(line);
    const over = this.waiting.length - LIVE_ROWS_MAX;
    if (over > 0) {
      this.waiting.splice(0, over);
      this.cut += over;
    }
  }

  private flush(): void {
    const now_ms = performance.now();
    while ((this.arrived[0]?.at_ms ?? now_ms) < now_ms - RATE_WINDOW_MS) this.arrived.shift();
    const rows = this.arrived.reduce((sum, { rows }) => sum + rows, 0);
    this.rate = Math.round(rows / (RATE_WINDOW_MS / 1000));
    if (!this.following) {
      this.pending = this.waiting.length;
      return;
    }
    this.pending = 0;
    if (this.waiting.length === 0) return;
    this.rows.append(this.waiting);
    this.waiting = [];
    this.cut += this.rows.keepLast(LIVE_ROWS_MAX);
    this.count = this.rows.length;
    this.flushes += 1;
  }
}
