// A table of results (`| stats …`): columns, order, and as a CSV file.

import { parseRow } from './row';

export type Table = {
  columns: { name: string; numeric: boolean; max: number }[];
  /** One value per column; missing is empty. */
  rows: string[][];
};

const NUMBER = /^[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?$/i;

/** Columns stand in the order in which they first occur. */
export function tableOf(lines: readonly string[]): Table {
  const places = new Map<string, number>();
  const rows = lines.map((line) => {
    const row: string[] = [];
    for (const [name, value] of parseRow(line).fields) {
      let at = places.get(name);
      if (at === undefined) {
        at = places.size;
        places.set(name, at);
      }
      row[at] = value;
    }
    return row;
  });
  const filled = rows.map((row) => Array.from({ length: places.size }, (_, i) => row[i] ?? ''));
  const columns = [...places.keys()].map((name, i) => {
    const values = filled.map((row) => row[i] ?? '').filter((value) => value !== '');
    const numeric = values.length > 0 && values.every((value) => NUMBER.test(value));
    const max = numeric ? values.reduce((most, value) => Math.max(most, Number(value)), 0) : 0;
    return { name, numeric, max };
  });
  return { columns, rows: filled };
}

const COLLATOR = new Intl.Collator('en', { numeric: true });

/** Sorted by one column; numbers by value, missing ones last. The sort is stable. */
export function sorted(table: Table, column: number, descending: boolean): string[][] {
  const numeric = table.columns[column]?.numeric ?? false;
  const sign = descending ? -1 : 1;
  return [...table.rows].sort((one, other) => {
    const [a, b] = [one[column] ?? '', other[column] ?? ''];
    if (a === '' || b === '') return a === b ? 0 : a === '' ? 1 : -1;
    return sign * (numeric ? Number(a) - Number(b) : COLLATOR.compare(a, b));
  });
}

/**
 * As CSV (RFC 4180). A text that a spreadsheet would take for a formula is prefixed with `'`: log
 * text is hostile there too.
 */
export function csv(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const cell = (value: string) => {
    const formula = /^[=+\-@\t\r]/.test(value) && !NUMBER.test(value);
    const text = formula ? `'${value}` : value;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows].map((row) => row.map(cell).join(',')).join('\r\n') + '\r\n';
}
