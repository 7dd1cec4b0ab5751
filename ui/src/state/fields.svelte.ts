// The fields of the records that match, and the commonest values of those that are opened.

import * as api from '../api/client';
import { matching } from '../query/logsql';
import { boundsParams, failureOf, type Failure } from './search.svelte';
import type { Bounds } from '../time/range';

export const VALUES_MAX = 12;

export type FieldValues = { values: api.ValueHits[] | null; failure: Failure | null };

export class Fields {
  names = $state.raw<api.ValueHits[]>([]);
  loading = $state(false);
  failure = $state.raw<Failure | null>(null);
  /** Opened fields, which stay open from one search to the next. */
  open = $state.raw<ReadonlyMap<string, FieldValues>>(new Map());

  private abort = new AbortController();
  private params: api.Params = {};

  async load(query: string, bounds: Bounds): Promise<void> {
    this.abort.abort();
    this.abort = new AbortController();
    const { signal } = this.abort;
    this.params = { query: matching(query), ...boundsParams(bounds) };
    this.loading = true;
    this.failure = null;
    const opened = [...this.open.keys()];
    try {
      const names = await api.fieldNames(this.params, signal);
      if (signal.aborted) return;
      this.names = names.filter(({ value }) => !['_time', '_msg', '_stream_id'].includes(value));
    } catch (error) {
      if (signal.aborted) return;
      this.failure = failureOf(error);
      if (this.failure.status !== 400) this.names = [];
      return;
    } finally {
      if (!signal.aborted) this.loading = false;
    }
    // One after the other: the rows, which matter more, are being read at the same time.
    for (const field of opened) await this.loadValues(field, signal);
  }

  toggle(field: string): void {
    const open = new Map(this.open);
    if (open.delete(field)) {
      this.open = open;
      return;
    }
    this.open = open.set(field, { values: null, failure: null });
    void this.loadValues(field, this.abort.signal);
  }

  private async loadValues(field: string, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    let result: FieldValues;
    try {
      const params = { ...this.params, field, limit: VALUES_MAX };
      result = { values: await api.fieldValues(params, signal), failure: null };
    } catch (error) {
      result = { values: null, failure: failureOf(error) };
    }
    if (!signal.aborted && this.open.has(field)) this.open = new Map(this.open).set(field, result);
  }
}
