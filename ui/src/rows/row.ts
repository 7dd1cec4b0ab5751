// One log record as the page sees it, read from one line of the server's answer.

export type Row = {
  /** RFC 3339 with nanoseconds, or empty when the query left the time out. */
  time: string;
  /** Canonical label text, `{host="a",service="b"}`, or empty. */
  stream: string;
  message: string;
  level: Level;
  /** The level as the record spells it. */
  level_text: string;
  /** Every field in the answer's order, these above included. */
  fields: [name: string, value: string][];
};

export type Level = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'other';

/** From the worst to the least, as they are stacked and listed. */
export const LEVELS: readonly Level[] = [
  'fatal',
  'error',
  'warn',
  'info',
  'debug',
  'trace',
  'other',
];

/** The fields that may hold a level, the first that is there wins. */
export const LEVEL_FIELDS: readonly string[] = [
  'level',
  'severity',
  'log.level',
  'lvl',
  'loglevel',
  'severity_text',
  'PRIORITY',
];
export const TRACE_FIELDS: readonly string[] = [
  'trace_id',
  'traceId',
  'traceID',
  'trace.id',
  'traceid',
  'otelTraceID',
];

const LEVEL_NAMES: Record<string, Level> = {
  fatal: 'fatal',
  critical: 'fatal',
  crit: 'fatal',
  emergency: 'fatal',
  emerg: 'fatal',
  alert: 'fatal',
  panic: 'fatal',
  f: 'fatal',
  '0': 'fatal',
  '1': 'fatal',
  '2': 'fatal',
  error: 'error',
  err: 'error',
  severe: 'error',
  failure: 'error',
  e: 'error',
  '3': 'error',
  warn: 'warn',
  warning: 'warn',
  w: 'warn',
  '4': 'warn',
  info: 'info',
  information: 'info',
  informational: 'info',
  notice: 'info',
  i: 'info',
  '5': 'info',
  '6': 'info',
  log: 'info',
  debug: 'debug',
  dbg: 'debug',
  d: 'debug',
  '7': 'debug',
  fine: 'debug',
  trace: 'trace',
  verbose: 'trace',
  finer: 'trace',
  finest: 'trace',
  t: 'trace',
};

/** Which of the few levels a level text means, syslog's numbers included. */
export function levelOf(text: string): Level {
  return LEVEL_NAMES[text.trim().toLowerCase()] ?? 'other';
}

function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  return value === null || value === undefined ? '' : JSON.stringify(value);
}

/** Reads one line. A line that is no JSON object is shown as it is, never dropped. */
export function parseRow(line: string): Row {
  let fields: [string, string][];
  try {
    const object: unknown = JSON.parse(line);
    if (typeof object !== 'object' || object === null || Array.isArray(object)) throw new Error();
    fields = Object.entries(object).map(([name, value]) => [name, textOf(value)]);
  } catch {
    fields = [['_msg', line]];
  }
  const found = (wanted: string) => fields.find(([name]) => name === wanted)?.[1] ?? '';
  const level_field = LEVEL_FIELDS.find((name) => found(name) !== '');
  const level_text = level_field === undefined ? '' : found(level_field);
  return {
    time: found('_time'),
    stream: found('_stream'),
    message: found('_msg'),
    level: levelOf(level_text),
    level_text,
    fields,
  };
}

/** The labels in a stream's canonical text, in its order. */
export function streamLabels(stream: string): [name: string, value: string][] {
  const labels: [string, string][] = [];
  for (const match of stream.matchAll(/([^\s,{}="]+)="((?:[^"\\]|\\.)*)"/g)) {
    const [, name = '', raw = ''] = match;
    try {
      labels.push([name, String(JSON.parse(`"${raw}"`))]);
    } catch {
      labels.push([name, raw]);
    }
  }
  return labels;
}

const CHIP_LABELS = [
  'service',
  'service.name',
  'app',
  'job',
  'kubernetes.container.name',
  'container',
  'unit',
  '_SYSTEMD_UNIT',
  'SYSLOG_IDENTIFIER',
  'program',
  'source',
  'host',
];

/** The one label that says best where a line comes from, for the chip in a row. */
export function streamChip(stream: string): string {
  const labels = streamLabels(stream);
  for (const wanted of CHIP_LABELS) {
    const value = labels.find(([name]) => name === wanted)?.[1];
    if (value !== undefined && value !== '') return value;
  }
  const path = labels.find(([name]) => /path|file/i.test(name))?.[1];
  if (path !== undefined) return path.split('/').pop() ?? path;
  return labels[0]?.[1] ?? '';
}

/** Hues that can be told apart, and how far to go on when one is taken. */
const HUES = 15;
const HUE_PROBE = 4;
const NAMES_MAX = 1000;
const hues = new Map<string, number>();

/**
 * A hue for a name. The same name mostly has the same one in every session, for it starts from a
 * hash; the first fifteen names of a session never share one.
 */
export function hueOf(text: string): number {
  const known = hues.get(text);
  if (known !== undefined) return known;
  let hash = 2166136261;
  for (let i = 0; i < text.length; i += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 16777619);
  }
  const taken = new Set(hues.values());
  const hue = (of: number) => (((of + HUES) % HUES) * 360) / HUES;
  // First a hue whose neighbours are free too, then any free one.
  const room = (of: number, near: number) =>
    [of, of - near, of + near].every((one) => !taken.has(hue(one)));
  const first = (hash >>> 8) % HUES;
  const slots = Array.from({ length: HUES }, (_, i) => (first + i * HUE_PROBE) % HUES);
  const slot = slots.find((of) => room(of, 1)) ?? slots.find((of) => room(of, 0)) ?? first;
  if (hues.size < NAMES_MAX) hues.set(text, hue(slot));
  return hue(slot);
}

const HIDDEN_BESIDE_MESSAGE = new Set(['_time', '_stream', '_stream_id', '_msg', ...LEVEL_FIELDS]);

/** The fields worth a glance beside the message: neither the stream's labels nor standard ones. */
export function sideFields(row: Row): [string, string][] {
  const labels = new Set(streamLabels(row.stream).map(([name]) => name));
  return row.fields.filter(
    ([name, value]) => value !== '' && !HIDDEN_BESIDE_MESSAGE.has(name) && !labels.has(name),
  );
}
