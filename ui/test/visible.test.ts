import { describe, expect, test } from 'vitest';
import { plain, visible, type VisibleOptions } from '../src/text/visible';

function shown(text: string, options: Partial<VisibleOptions> = {}): string {
  const pieces = visible(text, { layout: 'line', chars_max: 1000, ...options });
  return pieces
    .map((piece) => (piece.kind === 'text' ? piece.text : `[${piece.kind} ${piece.text}]`))
    .join('');
}

describe('visible', () => {
  test('plain text of any script stays as it is', () => {
    for (const text of ['order placed', 'žluťoučký 🐎', '注文', 'مرحبا', '👩‍👧', 'क्‍ष', '']) {
      expect(shown(text)).toBe(text);
    }
  });

  test('markup is text', () => {
    expect(shown('<script>alert(1)</script>')).toBe('<script>alert(1)</script>');
  });

  test('control characters are escaped', () => {
    expect(shown('\u001b[31mred\u0000\u0007\u007f\u0085')).toBe(
      '[escape \\x1b][31mred[escape \\0][escape \\x07][escape \\x7f][escape \\x85]',
    );
  });

  test('what reorders or hides text is escaped', () => {
    expect(shown('a\u202eb\u2066c\u200ed\u200be\ufefff\u00adg')).toBe(
      'a[escape \\u202e]b[escape \\u2066]c[escape \\u200e]d[escape \\u200b]e[escape \\ufeff]f[escape \\xad]g',
    );
    expect(shown('tag\u{e0041}end')).toBe('tag[escape \\u{e0041}]end');
    expect(shown('lone\ud800end')).toBe('lone[escape \\ud800]end');
  });

  test('a line shows its line ends, a block keeps them', () => {
    expect(shown('a\n\tb\r\nc')).toBe('a[escape ↵]  b[escape \\r][escape ↵]c');
    expect(shown('a\n\tb\r\nc', { layout: 'block' })).toBe('a\n\tb[escape \\r]\nc');
  });

  test('the pieces stand for exactly the text', () => {
    const text = 'x\u001b\ty\u202ez Timeout z';
    const pieces = visible(text, { layout: 'line', words: ['timeout'], chars_max: 100 });
    expect(pieces.map((piece) => piece.source).join('')).toBe(text);
  });

  test('searched words are marked, whatever their case and characters', () => {
    expect(shown('Connection to a.b(c) failed', { words: ['connection', 'a.b(c)'] })).toBe(
      '[match Connection] to [match a.b(c)] failed',
    );
  });

  test('as one string it is as safe', () => {
    expect(plain('a\u202eb\n\tc\u001b[0m', 100)).toBe('a\\u202eb\\n c\\x1b[0m');
    expect(plain('abcdef', 3)).toBe('abc…');
  });

  test('long text is cut, and never through a character', () => {
    expect(shown('abcdef', { chars_max: 3 })).toBe('abc');
    expect(shown('ab🐎c', { chars_max: 3 })).toBe('ab');
  });
});
