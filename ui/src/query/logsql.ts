// Reads just enough LogsQL to edit a query: where the filter ends and the pipes begin, whether the
// filter is a choice (`or`), which words it looks for. The server is the one that judges a query.

export type Token = {
  kind: 'word' | 'quoted' | 'stream' | 'pipe' | 'open' | 'close' | 'sign';
  start: number;
  end: number;
  /** The token's text; for `quoted` without its quotes and escapes. */
  text: string;
};

const WORD = /[\p{L}\p{N}_.\-/*@]/u;

function quotedEnd(query: string, start: number): number {
  const quote = query[start];
  let at = start + 1;
  while (at < query.length) {
    if (query[at] === '\\' && quote !== '`') at += 2;
    else if (query[at] === quote) return at + 1;
    else at += 1;
  }
  return query.length;
}

/** The text that a quoted LogsQL string stands for. */
export function unquote(text: string): string {
  const quote = text[0];
  const closed = text.length > 1 && text.endsWith(quote ?? '');
  const inner = text.slice(1, closed ? -1 : undefined);
  if (quote === '`') return inner;
  try {
    const body = quote === "'" ? inner.replace(/\\'/g, "'").replace(/(?<!\\)"/g, '\\"') : inner;
    return String(JSON.parse(`"${body}"`));
  } catch {
    return inner;
  }
}

function streamEnd(query: string, start: number): number {
  let at = start + 1;
  while (at < query.length) {
    const character = query[at] ?? '';
    if (character === '}') return at + 1;
    at = '"\'`'.includes(character) ? quotedEnd(query, at) : at + 1;
  }
  return query.length;
}

/** Cuts a query into tokens; never fails, whatever the text. */
export function scan(query: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  while (at < query.length) {
    const start = at;
    const character = String.fromCodePoint(query.codePointAt(at) ?? 0);
    let kind: Token['kind'] = 'sign';
    if (/\s/u.test(character)) {
      at += character.length;
      continue;
    }
    if ('"\'`'.includes(character)) {
      kind = 'quoted';
      at = quotedEnd(query, at);
    } else if (character === '{') {
      kind = 'stream';
      at = streamEnd(query, at);
    } else if (character === '-' || character === '!') {
      at += 1;
    } else if (WORD.test(character)) {
      kind = 'word';
      for (;;) {
        const next = query.codePointAt(at);
        if (next === undefined || !WORD.test(String.fromCodePoint(next))) break;
        at += next > 0xffff ? 2 : 1;
      }
    } else {
      if (character === '|') kind = 'pipe';
      else if (character === '(' || character === '[') kind = 'open';
      else if (character === ')' || character === ']') kind = 'close';
      at += character.length;
    }
    const raw = query.slice(start, at);
    tokens.push({ kind, start, end: at, text: kind === 'quoted' ? unquote(raw) : raw });
  }
  return tokens;
}

export type QueryParts = {
  /** The filter before the first pipe, trimmed. */
  filter: string;
  /** Everything from the first pipe on, with the `|`, trimmed; empty when there is none. */
  pipes: string;
  /** The pipes' names in order, in lower case: `['stats', 'sort']`. */
  pipe_names: string[];
  /** True when the filter is a choice at its top level, so that `and` must be fenced. */
  has_or: boolean;
};

/** Splits a query into its filter and its pipes. */
export function parts(query: string): QueryParts {
  let depth = 0;
  let first_pipe = query.length;
  let has_or = false;
  let after_pipe = false;
  const pipe_names: string[] = [];
  for (const token of scan(query)) {
    const top = depth === 0;
    if (after_pipe && token.kind === 'word') pipe_names.push(token.text.toLowerCase());
    after_pipe = false;
    if (token.kind === 'open') depth += 1;
    else if (token.kind === 'close') depth = Math.max(0, depth - 1);
    else if (token.kind === 'pipe' && top) {
      first_pipe = Math.min(first_pipe, token.start);
      after_pipe = true;
    } else if (token.kind === 'word' && top && first_pipe === query.length) {
      has_or ||= token.text.toLowerCase() === 'or';
    }
  }
  return {
    filter: query.slice(0, first_pipe).trim(),
    pipes: query.slice(first_pipe).trim(),
    pipe_names,
    has_or,
  };
}

const TABLE_PIPES = new Set([
  'stats',
  'top',
  'uniq',
  'patterns',
  'count',
  'by',
  'facets',
  'field_names',
  'field_values',
]);
const REORDERING_PIPES = new Set([
  ...TABLE_PIPES,
  'sort',
  'order',
  'limit',
  'head',
  'offset',
  'skip',
  'first',
  'last',
  'sample',
]);

/** True when the answer is a table of results and not a list of log records. */
export function isTable(query: string): boolean {
  return parts(query).pipe_names.some((name) => TABLE_PIPES.has(name));
}

/** True when older records can be had by asking again with an earlier end. */
export function isPageable(query: string): boolean {
  return !parts(query).pipe_names.some((name) => REORDERING_PIPES.has(name));
}

/** The part of a query that decides which records match: what is counted and what fields are of. */
export function matching(query: string): string {
  const { filter, pipes, pipe_names } = parts(query);
  const wanted = filter === '' ? '*' : filter;
  const only_filters = pipe_names.every((name) => name === 'filter' || name === 'where');
  return pipes !== '' && only_filters ? `${wanted} ${pipes}` : wanted;
}

/** The words and phrases that the filter looks for in the message, in lower case, for marking. */
export function searchedWords(query: string): string[] {
  const { filter } = parts(query);
  const tokens = scan(filter);
  const words = new Set<string>();
  // For each open fence: whether it holds the arguments of a function.
  const calls: boolean[] = [];
  tokens.forEach((token, i) => {
    const previous = tokens[i - 1];
    const next = tokens[i + 1];
    if (token.kind === 'open') {
      calls.push(token.text === '[' || (previous?.kind === 'word' && previous.end === token.start));
    } else if (token.kind === 'close') calls.pop();
    if (calls.includes(true) || (token.kind !== 'word' && token.kind !== 'quoted')) return;
    const glued = (a: Token | undefined, b: Token | undefined, sign: string) =>
      a !== undefined &&
      b !== undefined &&
      a.end === b.start &&
      (a.text === sign || b.text === sign);
    if (glued(token, next, ':') || (token.kind === 'word' && glued(token, next, '('))) return;
    if (previous?.text === '-' || previous?.text === '!') return;
    if (previous?.kind === 'word' && previous.text.toLowerCase() === 'not') return;
    if (glued(previous, token, ':') && tokens[i - 2]?.text !== '_msg') return;
    if (previous !== undefined && '=~<>,'.includes(previous.text)) return;
    if (token.kind === 'word' && /^(and|or|not)$/i.test(token.text)) return;
    const word = token.text.replace(/^\*+|\*+$/g, '').toLowerCase();
    if (word.length > 1 && word.length < 200) words.add(word);
  });
  return [...words].slice(0, 20);
}
