// The records that the tests know by heart.

const SERVICES = ['checkout', 'payments', 'catalog', 'gateway', 'inventory'];

/** 600 records over the last ten minutes, one a second; every tenth is an error. */
export function recent(now_ms) {
  return Array.from({ length: 600 }, (_, i) => {
    const service = SERVICES[i % SERVICES.length];
    const error = i % 10 === 3;
    return {
      _time: new Date(now_ms - (600 - i) * 1000).toISOString(),
      _msg: error ? `connection refused by ${service}-db, order ${i}` : `order ${i} placed`,
      service,
      host: `web-${i % 3}`,
      level: error ? 'error' : 'info',
      trace_id: `trace-${Math.floor(i / 5)}`,
      duration_ms: (i * 7) % 900,
    };
  });
}

/** Lines that try to do harm to whoever looks at them. */
export function hostile(now_ms) {
  const texts = [
    '<script>alert("script ran")</script><b id="injected">bold</b>',
    '<img src="x" onerror="alert(1)" id="injected">',
    'paid \u202e00.1\u202c EUR \u001b[31mred\u001b[0m bell\u0007 nul\u0000 end',
    '{{constructor.constructor("alert(1)")()}} ${alert(1)} {@html alert(1)}',
    `java.lang.IllegalStateException: pool exhausted\n\tat com.acme.Pool.get(Pool.java:81)\n${'\tat com.acme.Deep.call(Deep.java:1)\n'.repeat(20)}`,
    'long '.repeat(40_000),
  ];
  return texts.map((text, i) => ({
    _time: new Date(now_ms - 5000 + i).toISOString(),
    _msg: text,
    service: 'hostile',
    host: '<i id="injected">x</i>',
    level: 'warn',
    '<u id="injected">': '<script>alert(2)</script>',
  }));
}

/** Lines of the pattern `order <_> placed` besides those of `recent`, and lines that come close. */
export function alike(now_ms) {
  const texts = [
    // A message may hold the very text that stands for a variable.
    'order <_> placed',
    'order x7y placed',
    'order placed',
    'order 7 placed ',
    'order 7-8 placed',
    'reorder 7 placed',
    'order 7 placed\ntwice',
    'order 7 placed (again?) [a|b] `c` $1',
    'order 8 placed (again?) [a|b] `c` $2',
  ];
  return texts.map((text, i) => ({
    _time: new Date(now_ms - 3000 + i).toISOString(),
    _msg: text,
    service: 'alike',
    level: 'info',
  }));
}

export const BULK_START = '2026-01-15T10:00:00.000Z';
export const BULK_END = '2026-01-15T11:00:00.000Z';

/** So many records in the hour of `BULK_START`, eight at each moment, numbered from 0. */
export function bulk(from, to) {
  const start_ms = Date.parse(BULK_START);
  return Array.from({ length: to - from }, (_, i) => {
    const n = from + i;
    return {
      _time: new Date(start_ms + Math.floor(n / 8) * 500).toISOString(),
      _msg: `bulk record ${n}`,
      service: 'bulk',
      level: n % 50 === 0 ? 'warn' : 'debug',
      n,
    };
  });
}
