import { describe, expect, test } from 'vitest';
import { LineSplitter } from '../src/api/ndjson';

const bytes = (text: string) => new TextEncoder().encode(text);

function split(text: string, chunk_bytes: number): string[] {
  const splitter = new LineSplitter();
  const all = bytes(text);
  const lines: string[] = [];
  for (let at = 0; at < all.length; at += chunk_bytes) {
    lines.push(...splitter.push(all.subarray(at, at + chunk_bytes)));
  }
  return [...lines, ...splitter.end()];
}

describe('LineSplitter', () => {
  const text = '{"a":"1"}\n{"b":"žluťoučký 🐎"}\r\n\n{"c":"\u202e"}\n{"last":"no line end"}';
  const lines = ['{"a":"1"}', '{"b":"žluťoučký 🐎"}', '{"c":"\u202e"}', '{"last":"no line end"}'];

  test('gives the same lines however the bytes are cut', () => {
    for (let chunk = 1; chunk < 40; chunk += 1) expect(split(text, chunk)).toEqual(lines);
    expect(split(text, 10_000)).toEqual(lines);
  });

  test('hands out a line as soon as it is whole', () => {
    const splitter = new LineSplitter();
    expect(splitter.push(bytes('{"a"'))).toEqual([]);
    expect(splitter.push(bytes(':1}\n{'))).toEqual(['{"a":1}']);
    expect(splitter.end()).toEqual(['{']);
  });

  test('an empty answer has no lines', () => {
    expect(split('', 5)).toEqual([]);
    expect(split('\n\n', 1)).toEqual([]);
  });

  test('bytes that are no UTF-8 become replacement characters, not an error', () => {
    const splitter = new LineSplitter();
    expect(splitter.push(new Uint8Array([0x61, 0xff, 0x62, 0x0a]))).toEqual(['a\ufffdb']);
  });
});
