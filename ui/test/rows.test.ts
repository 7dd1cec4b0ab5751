import { describe, expect, test } from 'vitest';
import { Heights } from '../src/rows/heights';
import { histogram } from '../src/rows/histogram';
import { Already, nextPage, timeFromNs, timeNs } from '../src/rows/pages';
import { hueOf, levelOf, parseRow, sideFields, streamChip, streamLabels } from '../src/rows/row';
import { RowStore } from '../src/rows/store';
import { csv, sorted, tableOf } from '../src/rows/table';

describe('Heights_model', () => {
  test('agrees with adding up, whatever is measured', () => {
    const heights = new Heights(22);
    const model: number[] = [];
    let seed = 1;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return seed % below;
    };
    for (let step = 0; step < 400; step += 1) {
      if (step % 50 === 0) {
        const count = random(5000);
        heights.resize(count);
        while (model.length > count) model.pop();
        while (model.length < count) model.push(22);
      }
      if (model.length === 0) continue;
      const row = random(model.length);
      const height = 20 + random(300);
      heights.set(row, height);
      model[row] = height;
      const probe = random(model.length);
      const top = model.slice(0, probe).reduce((sum, h) => sum + h, 0);
      expect(heights.top(probe)).toBe(top);
      expect(heights.at(top)).toBe(probe);
      expect(heights.at(top + (model[probe] ?? 0) - 1)).toBe(probe);
    }
    expect(heights.total).toBe(model.reduce((sum, h) => sum + h, 0));
  });

  test('an empty list and positions outside of it', () => {
    const heights = new Heights(22);
    expect(heights.total).toBe(0);
    expect(heights.at(100)).toBe(0);
    heights.resize(10);
    expect(heights.at(1e9)).toBe(9);
    expect(heights.at(-5)).toBe(0);
  });
});

describe('pages', () => {
  const line = (time: string, n: number) => JSON.stringify({ _time: time, n: String(n) });

  test('nanoseconds survive', () => {
    for (const text of ['1969-12-31T23:59:59.999999999Z', '2026-01-31T14:05:09.000000001Z']) {
      expect(timeFromNs(timeNs(text) ?? 0n)).toBe(text);
    }
    expect(timeNs('2026-01-31T14:05:09.5+02:00')).toBe(timeNs('2026-01-31T12:05:09.5Z'));
    expect(timeNs('x')).toBeNull();
  });

  test('paging loses and doubles nothing, even with hundreds at one nanosecond', () => {
    const stored: string[] = [];
    for (let i = 0; i < 1000; i += 1) {
      const group = Math.floor(i / 130);
      // Some records are equal in everything.
      stored.push(line(`2026-01-31T14:05:09.00000000${9 - group}Z`, i % 3 === 0 ? -1 : i));
    }
    const ask = (end: string | null, limit: number, shuffle: number) => {
      const before = stored.filter((l) => end === null || parseRow(l).time < end);
      // The order among equals may differ from one answer to the next, as long as time falls.
      const times = [...new Set(before.map((l) => parseRow(l).time))];
      const any = times.flatMap((time) => {
        const group = before.filter((l) => parseRow(l).time === time);
        return shuffle % 2 === 0 ? group : group.reverse();
      });
      return any.slice(0, limit);
    };
    const seen = ask(null, 100, 0);
    for (let round = 1; round < 100; round += 1) {
      const next = nextPage(seen);
      if (next === null) break;
      const limit = 100 + next.already.size;
      const got = ask(next.end, limit, 0);
      seen.push(...got.filter((l) => !next.already.take(l)));
      if (got.length < limit) break;
    }
    expect([...seen].sort()).toEqual([...stored].sort());
  });

  test('the order of fields does not make another record', () => {
    const already = new Already(['{"a":"1","b":"2"}']);
    expect(already.take('{"b":"2","a":"1"}')).toBe(true);
    expect(already.take('{"b":"2","a":"1"}')).toBe(false);
  });
});

describe('rows', () => {
  test('a line that is no JSON is shown, not dropped', () => {
    expect(parseRow('{"_msg":').message).toBe('{"_msg":');
    expect(parseRow('[1]').message).toBe('[1]');
    expect(parseRow('{"n":5,"o":{"a":null}}').fields).toEqual([
      ['n', '5'],
      ['o', '{"a":null}'],
    ]);
  });

  test('levels of all spellings', () => {
    expect(
      ['WARNING', 'Err', 'crit', '3', 'notice', 'verbose', 'whatever', ''].map(levelOf),
    ).toEqual(['warn', 'error', 'fatal', 'error', 'info', 'trace', 'other', 'other']);
    expect(parseRow('{"severity":"ERROR"}').level).toBe('error');
  });

  test('streams', () => {
    const stream = '{host="a,\\"b}",service="shop"}';
    expect(streamLabels(stream)).toEqual([
      ['host', 'a,"b}'],
      ['service', 'shop'],
    ]);
    expect(streamChip(stream)).toBe('shop');
    expect(streamChip('{filename="/var/log/nginx/access.log"}')).toBe('access.log');
    expect(streamChip('{}')).toBe('');
    const row = parseRow(
      '{"_time":"t","_stream":"{a=\\"1\\"}","a":"1","level":"info","x":"2","_msg":"m"}',
    );
    expect(sideFields(row)).toEqual([['x', '2']]);
  });

  test('the first streams of a session have colours of their own, and keep them', () => {
    const names = Array.from({ length: 15 }, (_, i) => `service-${i}`);
    const given = names.map(hueOf);
    expect(new Set(given).size).toBe(15);
    expect(names.map(hueOf)).toEqual(given);
  });

  test('the store keeps the last rows and their numbers', () => {
    const store = new RowStore();
    store.append(Array.from({ length: 50 }, (_, i) => `{"_msg":"${i}"}`));
    expect(store.keepLast(20)).toBe(30);
    expect([store.first, store.length, store.at(0)?.message]).toEqual([30, 20, '30']);
    expect(store.at(20)).toBeUndefined();
    store.clear();
    expect([store.first, store.length]).toEqual([0, 0]);
  });
});

describe('histogram', () => {
  const group = (level: string, entries: [string, number][]) => ({
    fields: { level },
    timestamps: entries.map(([time]) => time),
    values: entries.map(([, count]) => count),
    total: 0,
  });

  test('puts spellings together, fills gaps, drops what is outside', () => {
    const start = Date.parse('2026-01-31T14:00:05Z');
    const { levels, starts_ms, total } = histogram(
      [
        group('info', [
          ['2026-01-31T14:00:00Z', 2],
          ['2026-01-31T14:00:30Z', 1],
        ]),
        group('ERROR', [['2026-01-31T14:00:10Z', 1]]),
        group('err', [
          ['2026-01-31T14:00:10.000000000Z', 4],
          ['2026-01-31T15:00:00Z', 9],
        ]),
      ],
      start,
      start + 30_000,
      10_000,
    );
    expect(starts_ms.map((ms) => new Date(ms).toISOString().slice(17, 19))).toEqual([
      '00',
      '10',
      '20',
      '30',
    ]);
    expect(levels.map(({ level, counts, total }) => [level, counts, total])).toEqual([
      ['error', [0, 5, 0, 0], 5],
      ['info', [2, 0, 0, 1], 3],
    ]);
    expect(total).toBe(8);
  });
});

describe('tables', () => {
  const table = tableOf(['{"a":"x","n":"10"}', '{"a":"=1+1","n":"9"}', '{"n":"-2.5","b":"q\\"r"}']);

  test('columns, numbers and order', () => {
    expect(table.columns.map(({ name, numeric }) => [name, numeric])).toEqual([
      ['a', false],
      ['n', true],
      ['b', false],
    ]);
    expect(sorted(table, 1, true).map((row) => row[1])).toEqual(['10', '9', '-2.5']);
    expect(sorted(table, 0, true).map((row) => row[0])).toEqual(['x', '=1+1', '']);
  });

  test('CSV cannot become a formula', () => {
    expect(csv(['a', 'n', 'b'], table.rows)).toBe(
      'a,n,b\r\nx,10,\r\n\'=1+1,9,\r\n,-2.5,"q""r"\r\n',
    );
  });
});
