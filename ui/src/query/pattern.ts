// A pattern of messages as the server writes it, and the clause that finds its records again.
//
// `<_>` stands for a variable: a run of ASCII letters and digits, or a UUID; all other characters
// are the messages' own. Which runs are variables is a matter of the messages beside: what is new
// is told by its digits alone (crates/segment/src/pattern.rs), a built segment knows more (a
// currency, a method). So a clause asks for whatever may stand there: it loses no record of its
// pattern, and has others only where a more special pattern fits as well.

import { isInvisible } from '../text/visible';
import { clause } from './edit';

export const VARIABLE = '<_>';
/** So long may the clause of a pattern be; a link must hold it. */
export const CLAUSE_CHARS_MAX = 6000;

/** A run, or five with dashes between as in a UUID. */
const VALUE = '[A-Za-z0-9]+((-[A-Za-z0-9]+){4})?';

export type PatternPiece = { text: string; kind: 'literal' | 'variable' };

/** Cuts a pattern into what all its messages share and what differs. */
export function patternPieces(pattern: string): PatternPiece[] {
  return pattern
    .split(/(<_>)/)
    .filter((text) => text !== '')
    .map((text) => ({ text, kind: text === VARIABLE ? 'variable' : 'literal' }));
}

/** The characters of a text in a regular expression within backticks, where none hides. */
function literal(text: string): string[] {
  return [...text].map((character) => {
    if (character === '`' || isInvisible(character)) {
      return `\\x{${(character.codePointAt(0) ?? 0).toString(16)}}`;
    }
    return /[\\.+*?()|[\]{}^$]/.test(character) ? `\\${character}` : character;
  });
}

/**
 * What stands at the variable `at`: a value, or the very text `<_>`, which a message may hold too.
 * A value is a whole run, so beside a letter only the text can be, and two values never touch.
 */
function variable(pieces: readonly PatternPiece[], at: number): string {
  const [before, after] = [pieces[at - 1], pieces[at + 1]];
  const touches =
    /[A-Za-z0-9]$/.test(before?.kind === 'literal' ? before.text : '') ||
    /^[A-Za-z0-9]/.test(after?.kind === 'literal' ? after.text : '');
  if (touches) return VARIABLE;
  return `(${VARIABLE}|${VALUE}${after?.kind === 'variable' ? '\\b' : ''})`;
}

export type PatternClause = {
  text: string;
  /** False when the pattern was too long and only its beginning is asked for. */
  whole: boolean;
};

/** The clause that keeps the records whose message has this pattern. */
export function patternClause(pattern: string): PatternClause {
  const pieces = patternPieces(pattern);
  if (pieces.every(({ kind }) => kind === 'literal')) {
    const text = clause('_msg', pattern);
    if (text.length <= CLAUSE_CHARS_MAX) return { text, whole: true };
  }
  let expression = '^';
  for (const [at, { text, kind }] of pieces.entries()) {
    const parts = kind === 'variable' ? [variable(pieces, at)] : literal(text);
    for (const part of parts) {
      if (expression.length + part.length > CLAUSE_CHARS_MAX) {
        return { text: `_msg:~\`${expression}\``, whole: false };
      }
      expression += part;
    }
  }
  return { text: `_msg:~\`${expression}$\``, whole: true };
}
