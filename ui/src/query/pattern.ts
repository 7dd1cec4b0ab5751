// A pattern of messages as the server writes it, and the clause that finds its records again.
//
// A variable is a run of ASCII letters and digits with a digit in it, and stands as `<_>`; all
// other characters are the messages' own (crates/segment/src/pattern.rs).

import { isInvisible } from '../text/visible';
import { clause, quote } from './edit';

export const VARIABLE = '<_>';
/** So much of a pattern goes into a query; a link must hold it. */
export const CLAUSE_CHARS_MAX = 2000;

const VALUE = '[A-Za-z]*[0-9][A-Za-z0-9]*';

export type PatternPiece = { text: string; kind: 'literal' | 'variable' };

/** Cuts a pattern into what all its messages share and what differs. */
export function patternPieces(pattern: string): PatternPiece[] {
  return pattern
    .split(/(<_>)/)
    .filter((text) => text !== '')
    .map((text) => ({ text, kind: text === VARIABLE ? 'variable' : 'literal' }));
}

/** A text as a regular expression within backticks, where no character hides. */
function literal(text: string): string {
  const codes = [...text].map((character) => {
    if (character === '`' || isInvisible(character)) {
      return `\\x{${(character.codePointAt(0) ?? 0).toString(16)}}`;
    }
    return /[\\.+*?()|[\]{}^$]/.test(character) ? `\\${character}` : character;
  });
  return codes.join('');
}

/**
 * What stands at the variable `at`: a value, or the very text `<_>`, which a message may hold too.
 * A value is a whole run, so beside a letter only the text can be, and two values never touch.
 */
function variable(pieces: readonly PatternPiece[], at: number): string {
  const [before, after] = [pieces[at - 1], pieces[at + 1]];
  const touches =
    /[A-Za-z]$/.test(before?.kind === 'literal' ? before.text : '') ||
    /^[A-Za-z]/.test(after?.kind === 'literal' ? after.text : '');
  if (touches) return VARIABLE;
  return `(${VARIABLE}|${VALUE}${after?.kind === 'variable' ? '\\b' : ''})`;
}

export type PatternClause = {
  text: string;
  /** False when the pattern was too long and only its beginning is asked for. */
  whole: boolean;
};

/** The clause that keeps the records whose message has this pattern, and no others. */
export function patternClause(pattern: string): PatternClause {
  const characters = [...pattern];
  const whole = characters.length <= CLAUSE_CHARS_MAX;
  // A `<_>` that is cut in two is no variable any more.
  const kept = whole ? pattern : characters.slice(0, CLAUSE_CHARS_MAX).join('').replace(/<_?$/, '');
  const pieces = patternPieces(kept);
  if (pieces.every(({ kind }) => kind === 'literal')) {
    const text = whole ? clause('_msg', kept) : `_msg:=${quote(kept)}*`;
    return { text, whole };
  }
  const expression = pieces.map(({ text, kind }, at) =>
    kind === 'variable' ? variable(pieces, at) : literal(text),
  );
  return { text: `_msg:~\`^${expression.join('')}${whole ? '$' : ''}\``, whole };
}
