// Changes a query by a click: text in, text out. The pipes stay as they are; the filter gains or
// loses one clause.

import { parts } from './logsql';

const BARE_NAME = /^[A-Za-z_][A-Za-z0-9_.]*$/;
const KEYWORDS = new Set(['and', 'or', 'not']);

/** Writes text as a LogsQL string. */
export function quote(text: string): string {
  return JSON.stringify(text);
}

function nameText(field: string): string {
  return BARE_NAME.test(field) && !KEYWORDS.has(field.toLowerCase()) ? field : quote(field);
}

/** The clause that keeps exactly the records whose field has this value; empty means missing. */
export function clause(field: string, value: string): string {
  // A stream's canonical text is itself a stream filter.
  if (field === '_stream') return value;
  if (field === '_time') return `_time:${value}`;
  return value === '' ? `${nameText(field)}:""` : `${nameText(field)}:=${quote(value)}`;
}

/** The clause that keeps the records whose field has one of these values. */
export function clauseIn(field: string, values: readonly string[]): string {
  const [only] = values;
  if (values.length === 1 && only !== undefined) return clause(field, only);
  return `${nameText(field)}:in(${values.map(quote).join(', ')})`;
}

/** The clause that keeps the records that have the field at all. */
export function clauseExists(field: string): string {
  return `${nameText(field)}:*`;
}

function negated(text: string): string {
  return text.startsWith('{') ? `not ${text}` : `-${text}`;
}

/** Where `text` stands in `filter` as a clause of its own, or -1. */
function find(filter: string, text: string): number {
  for (let at = filter.indexOf(text); at >= 0; at = filter.indexOf(text, at + 1)) {
    const before = filter[at - 1];
    const after = filter[at + text.length];
    const starts = before === undefined || /[\s(]/.test(before);
    const ends = after === undefined || /[\s)]/.test(after);
    const denied = /(?:^|[\s(])not\s+$/i.test(filter.slice(0, at));
    if (starts && ends && !denied) return at;
  }
  return -1;
}

function join(filter: string, pipes: string): string {
  const kept = filter.trim() === '' ? '*' : filter.trim();
  return pipes === '' ? kept : `${kept} ${pipes}`;
}

/** Narrows the query by a clause, or by its opposite. Adding the same one twice changes nothing. */
export function addClause(query: string, text: string, exclude = false): string {
  const { filter, pipes, has_or } = parts(query);
  const wanted = exclude ? negated(text) : text;
  const opposite = exclude ? text : negated(text);
  if (!has_or) {
    if (find(filter, wanted) >= 0) return join(filter, pipes);
    const at = find(filter, opposite);
    if (at >= 0) {
      return join(filter.slice(0, at) + wanted + filter.slice(at + opposite.length), pipes);
    }
  }
  if (filter === '' || filter === '*') return join(wanted, pipes);
  return join(`${has_or ? `(${filter})` : filter} ${wanted}`, pipes);
}

/** True when the query already has this clause at its top level. */
export function hasClause(query: string, text: string): boolean {
  const { filter, has_or } = parts(query);
  return !has_or && find(filter, text) >= 0;
}

/** Takes a clause out again; the query is unchanged when it is not there. */
export function removeClause(query: string, text: string): string {
  const { filter, pipes, has_or } = parts(query);
  const at = has_or ? -1 : find(filter, text);
  if (at < 0) return query;
  const before = filter.slice(0, at).replace(/(?:\s+and)?\s*$/i, '');
  const after = filter.slice(at + text.length).replace(/^\s*(?:and\s+)?/i, '');
  return join(`${before} ${after}`, pipes);
}
