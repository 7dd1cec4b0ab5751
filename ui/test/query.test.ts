import { describe, expect, test } from 'vitest';
import {
  addClause,
  clause,
  clauseExists,
  clauseIn,
  hasClause,
  removeClause,
} from '../src/query/edit';
import { isPageable, isTable, matching, parts, searchedWords } from '../src/query/logsql';

describe('parts', () => {
  test('the filter ends at the first pipe that is one', () => {
    expect(parts('error | stats count()')).toMatchObject({
      filter: 'error',
      pipes: '| stats count()',
      pipe_names: ['stats'],
    });
    expect(parts('"a | b" {x="|"} `|` | limit 5 | fields a, b').pipe_names).toEqual([
      'limit',
      'fields',
    ]);
    expect(parts('user:in(error | fields user) | sort by (_time)')).toMatchObject({
      filter: 'user:in(error | fields user)',
      pipe_names: ['sort'],
    });
  });

  test('half-typed queries are no trouble', () => {
    for (const query of ['', '|', '"', '{', '(', 'a:"x', '\\', '{a="', '| |', ')))', '🐎 | x']) {
      expect(() => parts(query)).not.toThrow();
      expect(() => searchedWords(query)).not.toThrow();
      expect(() => addClause(query, 'a:="b"')).not.toThrow();
    }
  });

  test('tells tables and pages', () => {
    expect(isTable('* | stats count()')).toBe(true);
    expect(isTable('error | filter stats')).toBe(false);
    expect(isTable('"| stats"')).toBe(false);
    expect(isPageable('error | fields _time, _msg')).toBe(true);
    expect(isPageable('error | sort by (x)')).toBe(false);
    expect(isPageable('error | limit 5')).toBe(false);
  });
});

test('matching leaves the pipes that only filter', () => {
  expect(matching('error | stats count()')).toBe('error');
  expect(matching('| fields a')).toBe('*');
  expect(matching('error | filter a:b')).toBe('error | filter a:b');
  expect(matching('error | filter a:b | limit 5')).toBe('error');
});

describe('searchedWords', () => {
  const cases: [string, string[]][] = [
    ['*', []],
    ['error Timeout', ['error', 'timeout']],
    ['"connection refused" level:error', ['connection refused']],
    ['error -retry !other not third fourth', ['error', 'fourth']],
    ['_msg:refused time* | stats by (service) count()', ['refused', 'time']],
    ['level:in("one", "two") status:>500 _time:[2026, 2027] rest', ['rest']],
    ['error and (warn or fail)', ['error', 'warn', 'fail']],
  ];
  test.each(cases)('%s', (query, words) => expect(searchedWords(query)).toEqual(words));
});

describe('clause', () => {
  test('values are quoted so that they mean themselves', () => {
    expect(clause('level', 'error')).toBe('level:="error"');
    expect(clause('msg', 'say "hi"\n\\')).toBe('msg:="say \\"hi\\"\\n\\\\"');
    expect(clause('user', '')).toBe('user:""');
    expect(clause('user agent', 'x')).toBe('"user agent":="x"');
    expect(clause('not', 'x')).toBe('"not":="x"');
    expect(clause('kubernetes.pod.name', 'a')).toBe('kubernetes.pod.name:="a"');
  });

  test('a stream is filtered by its labels', () => {
    expect(clause('_stream', '{a="b"}')).toBe('{a="b"}');
  });

  test('lists and existence', () => {
    expect(clauseIn('level', ['error', 'ERROR'])).toBe('level:in("error", "ERROR")');
    expect(clauseIn('level', ['error'])).toBe('level:="error"');
    expect(clauseExists('a')).toBe('a:*');
  });
});

describe('addClause', () => {
  const error = clause('level', 'error');

  test('narrows the filter and leaves the pipes', () => {
    expect(addClause('*', error)).toBe('level:="error"');
    expect(addClause('', error)).toBe('level:="error"');
    expect(addClause('timeout', error)).toBe('timeout level:="error"');
    expect(addClause('timeout | stats count()', error)).toBe(
      'timeout level:="error" | stats count()',
    );
    expect(addClause('* | limit 5', error, true)).toBe('-level:="error" | limit 5');
  });

  test('fences a choice', () => {
    expect(addClause('a or b', error)).toBe('(a or b) level:="error"');
    expect(addClause('(a or b)', error)).toBe('(a or b) level:="error"');
  });

  test('twice is once, and the opposite replaces', () => {
    const once = addClause('timeout', error);
    expect(addClause(once, error)).toBe(once);
    expect(addClause(once, error, true)).toBe('timeout -level:="error"');
    expect(addClause('timeout -level:="error"', error)).toBe('timeout level:="error"');
    expect(addClause('{a="b"} x', '{a="b"}', true)).toBe('not {a="b"} x');
    expect(addClause('not {a="b"} x', '{a="b"}')).toBe('{a="b"} x');
  });

  test('part of another clause is not the clause', () => {
    expect(addClause('xlevel:="error"', error)).toBe('xlevel:="error" level:="error"');
    expect(hasClause('-level:="error"', error)).toBe(false);
  });
});

describe('removeClause', () => {
  test('takes out what was added', () => {
    for (const query of ['*', 'timeout', 'timeout | stats count()', 'a and b']) {
      const clicked = addClause(query, 'level:="x"');
      expect(hasClause(clicked, 'level:="x"')).toBe(true);
      expect(removeClause(clicked, 'level:="x"')).toBe(query);
    }
    expect(removeClause('level:="x" and b', 'level:="x"')).toBe('b');
    expect(removeClause('a and level:="x" and b', 'level:="x"')).toBe('a b');
    expect(removeClause('other', 'level:="x"')).toBe('other');
  });
});
