// Speaks with the Lodge server. Every call takes an AbortSignal: dropping a request cancels the
// work on the server too.

import type { HitsGroup } from '../rows/histogram';
import { LineSplitter } from './ndjson';

/** What the server refused or could not do, as its answer says. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    /** Where in the query the error is: in characters, the first being 1. */
    readonly column: number | null,
  ) {
    super(message);
    this.name = 'ApiError';
  }
}

export type ValueHits = { value: string; hits: number };

export type Params = Record<string, string | number | undefined>;

function form(params: Params): URLSearchParams {
  const body = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== undefined) body.set(name, String(value));
  }
  return body;
}

async function failure(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => '');
  try {
    const body = JSON.parse(text) as { error?: unknown; column?: unknown };
    if (typeof body.error === 'string') {
      const column = typeof body.column === 'number' ? body.column : null;
      return new ApiError(body.error, response.status, column);
    }
  } catch {
    // Not Lodge's own answer: a proxy in between, perhaps. Its text is all there is to show.
  }
  const detail = text.trim().slice(0, 500);
  const message = detail === '' ? `The server answered ${response.status}.` : detail;
  return new ApiError(message, response.status, null);
}

async function post(path: string, params: Params, signal: AbortSignal): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { method: 'POST', body: form(params), signal });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiError('The Lodge server cannot be reached. Is it running?', 0, null);
  }
  if (!response.ok) throw await failure(response);
  return response;
}

async function json<T>(path: string, params: Params, signal: AbortSignal): Promise<T> {
  const response = await post(path, params, signal);
  return (await response.json()) as T;
}

async function readLines(
  response: Response,
  signal: AbortSignal,
  take: (lines: string[]) => void,
): Promise<void> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  const splitter = new LineSplitter();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const lines = splitter.push(value);
      if (lines.length > 0) take(lines);
    }
    const rest = splitter.end();
    if (rest.length > 0) take(rest);
  } catch (error) {
    if (signal.aborted || error instanceof ApiError) throw error;
    const reason = error instanceof Error && error.name === 'LineTooLong' ? error.message : '';
    throw new ApiError(
      reason || 'The answer broke off before its end: the rows below are not all there are.',
      0,
      null,
    );
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

/** Runs a query; `take` gets its lines as they arrive. */
export async function query(
  params: Params,
  signal: AbortSignal,
  take: (lines: string[]) => void,
): Promise<void> {
  await readLines(await post('/select/logsql/query', params, signal), signal, take);
}

/** Follows a query until the signal ends it; `opened` is called when the server has taken it. */
export async function tail(
  params: Params,
  signal: AbortSignal,
  opened: () => void,
  take: (lines: string[]) => void,
): Promise<void> {
  const response = await post('/select/logsql/tail', params, signal);
  opened();
  await readLines(response, signal, take);
}

export async function hits(params: Params, signal: AbortSignal): Promise<HitsGroup[]> {
  return (await json<{ hits?: HitsGroup[] }>('/select/logsql/hits', params, signal)).hits ?? [];
}

async function values(path: string, params: Params, signal: AbortSignal): Promise<ValueHits[]> {
  return (await json<{ values?: ValueHits[] }>(path, params, signal)).values ?? [];
}

export function fieldNames(params: Params, signal: AbortSignal): Promise<ValueHits[]> {
  return values('/select/logsql/field_names', params, signal);
}

export function fieldValues(params: Params, signal: AbortSignal): Promise<ValueHits[]> {
  return values('/select/logsql/field_values', params, signal);
}

/** One pattern of messages: how many have it, and how many in each part of the time. */
export type PatternHits = {
  pattern: string;
  hits: number;
  /** Among all messages that match, 0 to 1. */
  share: number;
  /** RFC 3339, of the earliest and the latest record. */
  first: string;
  last: string;
  trend: number[];
};

/** The commonest patterns first; `trend` tells where the parts of their trends lie. */
export type Patterns = { trend: { start: string; step_ns: number }; patterns: PatternHits[] };

export function patterns(params: Params, signal: AbortSignal): Promise<Patterns> {
  return json<Patterns>('/select/logsql/patterns', params, signal);
}

/** The server's own state; fields that it does not have are absent. */
export type Status = {
  version?: string;
  rows?: number;
  bytes?: number;
  ingest?: { records_per_s?: number };
  disk_free_bytes?: number | null;
};

export async function status(signal: AbortSignal): Promise<Status> {
  const response = await fetch('/api/v1/status', { signal });
  if (!response.ok) throw await failure(response);
  return (await response.json()) as Status;
}
