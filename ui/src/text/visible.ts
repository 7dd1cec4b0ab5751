// Makes log text safe to look at.
//
// Log text is hostile: a control character can hide text and a bidi override can reorder it, so a
// line may read as something it is not. Every character that draws nothing or moves others is shown
// by its escape. Invariant: joining the pieces' `source` gives back the input that was shown.

export type Piece = {
  /** What to draw. */
  text: string;
  /** `escape`: stands for an invisible character; `match`: a searched word; `text`: as it is. */
  kind: 'text' | 'escape' | 'match';
  /** The characters of the log line that this piece stands for. */
  source: string;
};

// The zero-width joiners (U+200C, U+200D) are left alone: scripts and emoji need them.
const INVISIBLE_RANGES = [
  '\\u0000-\\u001f\\u007f-\\u009f', // C0, DEL, C1
  '\\u00ad\\u061c\\u180e', // soft hyphen, Arabic letter mark, Mongolian vowel separator
  '\\u200b\\u200e\\u200f', // zero-width space, left-to-right and right-to-left marks
  '\\u2028-\\u202e', // line and paragraph separators, bidi embeddings and overrides
  '\\u2060-\\u206f', // word joiner, invisible operators, bidi isolates
  '\\ufeff\\ufff9-\\ufffb', // byte order mark, interlinear marks
  '\\u{e0000}-\\u{e007f}', // tags
  '\\ud800-\\udfff', // surrogates without their other half
];
const INVISIBLE = new RegExp(`[${INVISIBLE_RANGES.join('')}]`, 'gu');

const SHORT: Record<string, string> = {
  '\0': '\\0',
  '\n': '\\n',
  '\b': '\\b',
  '\f': '\\f',
  '\r': '\\r',
  '\v': '\\v',
};

/** The escape that stands for one character: `\x1b`, `\u202e`, `\u{e0041}`. */
export function escapeOf(character: string): string {
  const short = SHORT[character];
  if (short !== undefined) return short;
  const code = character.codePointAt(0) ?? 0;
  const hex = code.toString(16);
  if (code < 0x100) return `\\x${hex.padStart(2, '0')}`;
  return code > 0xffff ? `\\u{${hex}}` : `\\u${hex.padStart(4, '0')}`;
}

export type VisibleOptions = {
  /** `line`: line ends become ↵ and tabs spaces, for one-line rows; `block`: both are kept. */
  layout: 'line' | 'block';
  /** Words to mark, in lower case. */
  words?: readonly string[];
  /** At most so many characters are shown. */
  chars_max: number;
};

/** Cuts at `chars_max` without cutting a surrogate pair in two. */
function cut(text: string, chars_max: number): string {
  if (text.length <= chars_max) return text;
  const last = text.charCodeAt(chars_max - 1);
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? chars_max - 1 : chars_max);
}

function pushMatches(pieces: Piece[], text: string, words: RegExp | undefined): void {
  if (words === undefined) {
    pieces.push({ text, kind: 'text', source: text });
    return;
  }
  let from = 0;
  for (const hit of text.matchAll(words)) {
    if (hit[0] === '') continue;
    const before = text.slice(from, hit.index);
    if (before !== '') pieces.push({ text: before, kind: 'text', source: before });
    pieces.push({ text: hit[0], kind: 'match', source: hit[0] });
    from = hit.index + hit[0].length;
  }
  const rest = text.slice(from);
  if (rest !== '') pieces.push({ text: rest, kind: 'text', source: rest });
}

/** True of a character that draws nothing or moves others. */
export function isInvisible(character: string): boolean {
  return character.search(INVISIBLE) >= 0;
}

/** Log text as one safe string, for where there is no room to mark escapes: `a\u202eb`. */
export function plain(text: string, chars_max: number): string {
  const shown = cut(text, chars_max);
  const safe = shown.replace(INVISIBLE, (character) =>
    character === '\t' ? ' ' : escapeOf(character),
  );
  return shown.length < text.length ? `${safe}…` : safe;
}

function wordsPattern(words: readonly string[] | undefined): RegExp | undefined {
  if (words === undefined || words.length === 0) return undefined;
  const sorted = [...words].sort((a, b) => b.length - a.length);
  const escaped = sorted.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(escaped.join('|'), 'giu');
}

/** Cuts log text into pieces that are safe to draw as text nodes. */
export function visible(text: string, options: VisibleOptions): Piece[] {
  const shown = cut(text, options.chars_max);
  const words = wordsPattern(options.words);
  if (words === undefined && shown.search(INVISIBLE) < 0) {
    return shown === '' ? [] : [{ text: shown, kind: 'text', source: shown }];
  }
  const pieces: Piece[] = [];
  let from = 0;
  for (const hit of shown.matchAll(INVISIBLE)) {
    const character = hit[0];
    if (options.layout === 'block' && (character === '\n' || character === '\t')) continue;
    if (hit.index > from) pushMatches(pieces, shown.slice(from, hit.index), words);
    pieces.push(
      character === '\t'
        ? { text: '  ', kind: 'text', source: character }
        : {
            text: character === '\n' ? '↵' : escapeOf(character),
            kind: 'escape',
            source: character,
          },
    );
    from = hit.index + character.length;
  }
  if (from < shown.length) pushMatches(pieces, shown.slice(from), words);
  return pieces;
}
